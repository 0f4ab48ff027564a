-- Each half walks its part of the index; what others hold, and is passed over, is not much.
UPDATE {schema}.outbox
SET holder = %(owner)s, lease_until = extract(epoch FROM now()) + %(lease)s
WHERE id = ANY (
    ARRAY(
        SELECT id FROM (
            SELECT id, due_at FROM (
                SELECT id, due_at FROM {schema}.outbox
                WHERE app = %(app)s AND state = 0 AND ready_at <= now() + %(ahead)s
                    AND (holder IS NULL OR lease_until <= extract(epoch FROM now()))
                ORDER BY ready_at, id
                LIMIT %(limit)s
                FOR UPDATE SKIP LOCKED
            ) AS due
            UNION ALL
            SELECT id, due_at FROM (
                SELECT id, due_at FROM {schema}.outbox
                WHERE app = %(app)s AND state = 1 AND ready_at <= now()
                    AND (holder IS NULL OR lease_until <= extract(epoch FROM now()))
                ORDER BY ready_at, id
                LIMIT %(limit)s
                FOR UPDATE SKIP LOCKED
            ) AS put_back
        ) AS both_halves
        ORDER BY due_at, id
        LIMIT %(limit)s
    )
)
RETURNING
    due_at, id, (extract(epoch FROM due_at - now()) * 1000000)::bigint, job_id, queue, level,
    order_key, tenant, headers, body
