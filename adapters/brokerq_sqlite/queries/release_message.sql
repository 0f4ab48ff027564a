UPDATE brokerq_messages
SET state = 0, holder = NULL, lease_until = NULL, due_at = ifnull(:due, due_at)
WHERE id = :id AND holder = :holder
RETURNING due_at
