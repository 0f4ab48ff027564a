INSERT INTO {schema}.jobs (
    app, id, state, first_at, epoch, claimed, attempts, crashes, fence, owner, lease_until, due_at,
    expires_at, key, redrives, cancelling, job, queue, level, user_key, tags, correlation, cause,
    worker, history, note, ended_at, ended_as
)
SELECT %(app)s, new.*, CASE WHEN new.ended_at IS NOT NULL THEN new.state END
FROM unnest(
    %(ids)s::text[], %(states)s::text[], %(first_ats)s::timestamptz[], %(epochs)s::integer[],
    %(claimed)s::boolean[], %(attempts)s::integer[], %(crashes)s::integer[], %(fences)s::bigint[],
    %(owners)s::text[], %(leases)s::float8[], %(due_ats)s::timestamptz[],
    %(expires_ats)s::timestamptz[], %(keys)s::text[], %(redrives)s::integer[],
    %(cancelling)s::boolean[], %(jobs)s::text[], %(queues)s::text[], %(levels)s::text[],
    %(user_keys)s::text[], %(tags)s::text[], %(correlations)s::text[], %(causes)s::text[],
    %(workers)s::text[], %(histories)s::text[], %(notes)s::text[], %(ended_ats)s::timestamptz[]
) AS new (
    id, state, first_at, epoch, claimed, attempts, crashes, fence, owner, lease_until, due_at,
    expires_at, key, redrives, cancelling, job, queue, level, user_key, tags, correlation, cause,
    worker, history, note, ended_at
)
