-- As add_messages.sql; held back is whatever is not the first of its key.
INSERT INTO {schema}.messages (
    lane, ready_at, due_at, tenant, order_key, job_id, headers, body, state
)
SELECT
    lane, at, at, tenant, order_key, job_id, headers, body,
    CASE
        WHEN order_key IS NULL THEN 0
        WHEN place > 1 THEN 1
        WHEN EXISTS (
            SELECT FROM {schema}.messages WHERE messages.order_key = sent.order_key
        ) THEN 1
        ELSE 0
    END
FROM (
    SELECT
        lane, (SELECT clock_timestamp()) + delay * interval '1 microsecond' AS at, tenant,
        order_key, job_id, headers, body, number,
        row_number() OVER (PARTITION BY order_key ORDER BY number) AS place
    FROM unnest(
        %(lanes)s::integer[], %(delays)s::bigint[], %(tenants)s::text[], %(order_keys)s::text[],
        %(job_ids)s::text[], %(headers)s::text[], %(bodies)b::bytea[]
    ) WITH ORDINALITY AS sent (lane, delay, tenant, order_key, job_id, headers, body, number)
) AS sent
ORDER BY number
