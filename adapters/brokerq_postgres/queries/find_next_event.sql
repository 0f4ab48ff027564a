-- In how many seconds something of the lane is to be had, a lapsed lease included; and whether
-- there are messages of tenants. The first entry of a tenant in the index is its earliest message.
WITH RECURSIVE walk (tenant, ready_at, place) AS (
    (
        SELECT tenant, ready_at, 1 FROM {schema}.messages
        WHERE lane = %(lane)s AND state = 0
        ORDER BY tenant, ready_at, id
        LIMIT 1
    )
    UNION ALL
    SELECT next.tenant, next.ready_at, walk.place + 1
    FROM walk, LATERAL (
        SELECT tenant, ready_at FROM {schema}.messages
        WHERE lane = %(lane)s AND state = 0 AND messages.tenant > walk.tenant
        ORDER BY tenant, ready_at, id
        LIMIT 1
    ) AS next
    WHERE walk.place < %(most)s
)
SELECT
    extract(epoch FROM min(ready_at) - clock_timestamp())::float8,
    coalesce(bool_or(tenant <> ''), false)
FROM walk
