-- Not now(): a transaction of the program's may have begun long ago.
INSERT INTO {schema}.messages (lane, ready_at, due_at, tenant, job_id, headers, body)
SELECT lane, at, at, tenant, job_id, headers, body
FROM (
    SELECT
        lane, (SELECT clock_timestamp()) + delay * interval '1 microsecond' AS at, tenant, job_id,
        headers, body
    FROM unnest(
        %(lanes)s::integer[], %(delays)s::bigint[], %(tenants)s::text[], %(job_ids)s::text[],
        %(headers)s::text[], %(bodies)b::bytea[]
    ) AS sent (lane, delay, tenant, job_id, headers, body)
) AS sent
