DELETE FROM brokerq_messages WHERE id IN (
    SELECT id FROM brokerq_messages
    WHERE lane = :lane AND state = 2 AND id <= :last
    LIMIT :limit
)
RETURNING order_key
