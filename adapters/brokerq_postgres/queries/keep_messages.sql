-- Held back is whatever is not the first of its ordering key.
INSERT INTO {schema}.outbox (
    app, job_id, queue, level, state, due_at, ready_at, order_key, tenant, headers, body
)
SELECT
    %(app)s, job_id, queue, level,
    CASE
        WHEN order_key IS NULL THEN 0
        WHEN place > 1 THEN 2
        WHEN EXISTS (
            SELECT FROM {schema}.outbox
            WHERE hashtextextended(outbox.order_key, 0) = hashtextextended(kept.order_key, 0)
                AND outbox.app = %(app)s AND outbox.queue = kept.queue
                AND outbox.order_key = kept.order_key
        ) THEN 2
        ELSE 0
    END,
    at, at, order_key, tenant, headers, body
FROM (
    SELECT
        job_id, queue, level,
        coalesce(
            not_before, (SELECT clock_timestamp()) + delay * interval '1 microsecond'
        ) AS at,
        order_key, tenant, headers, body, number,
        row_number() OVER (PARTITION BY queue, order_key ORDER BY number) AS place
    FROM unnest(
        %(job_ids)s::text[], %(queues)s::text[], %(levels)s::text[], %(delays)s::bigint[],
        %(not_befores)s::timestamptz[], %(order_keys)s::text[], %(tenants)s::text[],
        %(headers)s::text[], %(bodies)b::bytea[]
    ) WITH ORDINALITY AS kept (
        job_id, queue, level, delay, not_before, order_key, tenant, headers, body, number
    )
) AS kept
ORDER BY number
