SELECT (extract(epoch FROM min(ready_at) - now()) * 1000000)::bigint
FROM (
    (
        SELECT ready_at - %(ahead)s AS ready_at FROM {schema}.outbox
        WHERE app = %(app)s AND state = 0
            AND (holder IS NULL OR lease_until <= extract(epoch FROM now()))
        ORDER BY outbox.ready_at
        LIMIT 1
    )
    UNION ALL
    (
        SELECT ready_at FROM {schema}.outbox
        WHERE app = %(app)s AND state = 1
            AND (holder IS NULL OR lease_until <= extract(epoch FROM now()))
        ORDER BY ready_at
        LIMIT 1
    )
) AS first
