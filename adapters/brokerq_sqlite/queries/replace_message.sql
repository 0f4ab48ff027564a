UPDATE brokerq_messages
SET state = 0, holder = NULL, lease_until = NULL, due_at = :due, deliveries = 0,
    headers = :headers, body = :body
WHERE id = :id AND holder = :holder
RETURNING due_at
