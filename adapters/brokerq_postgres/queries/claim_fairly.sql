-- The same share of each of up to `limit` tenants that have something, from the tenant `start` on.
-- The first entry of a tenant in the index is its earliest message.
WITH RECURSIVE walk (tenant, ready_at, place) AS (
    (
        SELECT tenant, ready_at, 1 FROM {schema}.messages
        WHERE lane = %(lane)s AND state = 0 AND tenant >= %(start)s
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
),
served (tenant, place) AS (
    SELECT tenant, place FROM walk WHERE ready_at <= now() ORDER BY place LIMIT %(limit)s
),
found AS MATERIALIZED (
    SELECT served.place, mine.row, mine.turn
    FROM served, LATERAL (
        SELECT locked.row, row_number() OVER (ORDER BY locked.ready_at, locked.id) AS turn
        FROM (
            SELECT ctid AS row, ready_at, id FROM {schema}.messages
            WHERE lane = %(lane)s AND messages.tenant = served.tenant AND state = 0
                AND ready_at <= now()
            ORDER BY ready_at, id
            LIMIT (SELECT ceil(%(limit)s::numeric / greatest(count(*), 1))::bigint FROM served)
            FOR UPDATE SKIP LOCKED
        ) AS locked
    ) AS mine
),
claimed AS (
    UPDATE {schema}.messages
    SET holder = %(holder)s, ready_at = now() + %(lease)s * interval '1 second',
        deliveries = deliveries + 1
    WHERE ctid = ANY (ARRAY(SELECT row FROM found ORDER BY turn, place LIMIT %(limit)s))
        AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL
    RETURNING due_at, id, order_key, job_id, deliveries, headers, body
)
SELECT
    date_part('epoch', claimed.due_at), claimed.id, claimed.order_key, claimed.job_id,
    claimed.deliveries, claimed.headers, claimed.body,
    coalesce(walked.cut_at, walked.last), walked.cut_at IS NULL AND walked.tenants < %(most)s,
    walked.others
FROM (
    SELECT
        (SELECT max(tenant) FROM served HAVING count(*) >= %(limit)s) AS cut_at,
        max(tenant) AS last, count(*) AS tenants, coalesce(bool_or(tenant <> ''), false) AS others
    FROM walk
) AS walked
LEFT JOIN claimed ON true
