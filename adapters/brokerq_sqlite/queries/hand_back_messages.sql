UPDATE brokerq_messages
SET state = 0, holder = NULL, lease_until = NULL, deliveries = deliveries - 1
WHERE id IN (SELECT value FROM json_each(?)) AND holder = ?
RETURNING due_at
