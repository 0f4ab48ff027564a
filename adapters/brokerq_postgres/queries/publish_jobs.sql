-- Messages without an ordering key and the first records of their jobs, which have no key and are
-- not known yet: else this fails as a whole. What all of them have alike is sent once, as the first
-- and only element: `ids` where they are the job ids, and a column of nothing but NULL, not at all.
WITH sent AS MATERIALIZED (
    SELECT
        coalesce(lane, (%(lanes)s::integer[])[1]) AS lane,
        now() + coalesce(delay, (%(delays)s::bigint[])[1]) * interval '1 microsecond' AS at,
        coalesce(tenant, (%(tenants)s::text[])[1]) AS tenant,
        job_id, headers, body, coalesce(id, job_id) AS id,
        coalesce(first_at, (%(first_ats)s::timestamptz[])[1]) AS first_at,
        coalesce(epoch, (%(epochs)s::integer[])[1]) AS epoch,
        coalesce(attempts, (%(attempts)s::integer[])[1]) AS attempts,
        coalesce(crashes, (%(crashes)s::integer[])[1]) AS crashes,
        coalesce(now() + wait * interval '1 microsecond', not_before) AS due_at,
        CASE WHEN wait > 0 OR not_before > now() THEN 'scheduled' ELSE 'queued' END AS state,
        expires_at,
        coalesce(redrives, (%(redrives)s::integer[])[1]) AS redrives,
        coalesce(job, (%(jobs)s::text[])[1]) AS job,
        coalesce(queue, (%(queues)s::text[])[1]) AS queue,
        coalesce(level, (%(levels)s::text[])[1]) AS level,
        tags, correlation, cause
    FROM unnest(
        %(lanes)s::integer[], %(delays)s::bigint[], %(tenants)s::text[], %(job_ids)s::text[],
        %(headers)s::text[], %(bodies)b::bytea[], %(ids)s::text[], %(first_ats)s::timestamptz[],
        %(epochs)s::integer[], %(attempts)s::integer[], %(crashes)s::integer[],
        %(not_befores)s::timestamptz[], %(waits)s::bigint[], %(expires_ats)s::timestamptz[],
        %(redrives)s::integer[], %(jobs)s::text[], %(queues)s::text[], %(levels)s::text[],
        %(tags)s::text[], %(correlations)s::text[], %(causes)s::text[]
    ) AS sent (
        lane, delay, tenant, job_id, headers, body, id, first_at, epoch, attempts, crashes,
        not_before, wait, expires_at, redrives, job, queue, level, tags, correlation, cause
    )
),
published AS (
    INSERT INTO {schema}.messages (lane, ready_at, due_at, tenant, job_id, headers, body)
    SELECT lane, at, at, tenant, job_id, headers, body FROM sent
),
kept AS (
    INSERT INTO {schema}.payloads (app, id, headers, body)
    SELECT %(app)s, id, headers, body FROM sent
)
INSERT INTO {schema}.jobs (
    app, id, state, first_at, epoch, claimed, attempts, crashes, fence, lease_until, due_at,
    expires_at, redrives, cancelling, job, queue, level, tags, correlation, cause, history
)
SELECT
    %(app)s, id, state, first_at, epoch, false, attempts, crashes, 0, 0, due_at, expires_at,
    redrives, false, job, queue, level, tags, correlation, cause,
    format(
        E'%%s %%s %%s\n', state,
        (SELECT (extract(epoch FROM now()) * 1000000)::bigint), attempts
    )
FROM sent
