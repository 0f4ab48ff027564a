UPDATE brokerq_messages
SET state = 1, holder = :holder, lease_until = :until, deliveries = deliveries + 1
WHERE id IN (
    SELECT id FROM brokerq_messages
    WHERE lane = :lane AND state = 0 AND due_at <= :now
    ORDER BY due_at, id
    LIMIT :limit
)
RETURNING due_at, id, order_key, job_id, deliveries, headers, body
