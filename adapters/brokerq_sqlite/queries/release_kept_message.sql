-- The first of an ordering key, where it was held back, may go.
UPDATE brokerq_outbox SET state = 0
WHERE state = 2 AND id = (
    SELECT min(id) FROM brokerq_outbox WHERE app = ? AND queue = ? AND order_key = ?
)
