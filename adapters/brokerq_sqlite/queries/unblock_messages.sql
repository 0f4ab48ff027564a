-- The first of each ordering key, where it is held back, may go.
UPDATE brokerq_messages SET state = 0
WHERE state = 2 AND id IN (
    SELECT min(id) FROM brokerq_messages
    WHERE order_key IN (SELECT value FROM json_each(?))
    GROUP BY order_key
)
RETURNING lane, due_at
