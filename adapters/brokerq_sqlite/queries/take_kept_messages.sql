-- Each half walks its part of the index; what others hold, and is passed over, is not much.
UPDATE brokerq_outbox SET holder = :owner, lease_until = :until
WHERE id IN (
    SELECT id FROM (
        SELECT id, due_at FROM (
            SELECT id, due_at FROM brokerq_outbox
            WHERE app = :app AND state = 0 AND ready_at <= :now + :ahead
                AND (holder IS NULL OR lease_until <= :mono)
            ORDER BY ready_at, id LIMIT :limit
        )
        UNION ALL
        SELECT id, due_at FROM (
            SELECT id, due_at FROM brokerq_outbox
            WHERE app = :app AND state = 1 AND ready_at <= :now
                AND (holder IS NULL OR lease_until <= :mono)
            ORDER BY ready_at, id LIMIT :limit
        )
    )
    ORDER BY due_at, id LIMIT :limit
)
RETURNING due_at, id, job_id, queue, level, order_key, tenant, headers, body
