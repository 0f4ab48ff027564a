-- The end of most jobs. What was known of them when they were claimed is as it was: whoever changed
-- it would have had to take the fence away. Of an array whose values are all the same there is only
-- the first, of one of nothing but NULL none. A negative result_ttl says that there is no result. As
-- for the app, see take_ready_jobs.sql.
WITH verdict AS MATERIALIZED (
    SELECT
        id, fence, coalesce(attempts, (%(attempts)s::integer[])[1]) AS attempts,
        coalesce(retention, (%(windows)s::bigint[])[1]) AS retention,
        coalesce(result, (%(results)b::bytea[])[1]) AS result,
        coalesce(result_ttl, (%(result_ttls)s::bigint[])[1]) AS result_ttl, key,
        clock_timestamp() AS now, %(app)s::integer AS app
    FROM unnest(
        %(ids)s::text[], %(fences)s::bigint[], %(attempts)s::integer[], %(windows)s::bigint[],
        %(results)b::bytea[], %(result_ttls)s::bigint[], %(keys)s::text[]
    ) AS verdict (id, fence, attempts, retention, result, result_ttl, key)
),
done AS (
    UPDATE {schema}.jobs
    SET state = 'succeeded', attempts = verdict.attempts, owner = NULL, lease_until = 0,
        due_at = NULL, cancelling = false,
        history = history || format(
            E'succeeded %%s %%s\n', (date_part('epoch', now) * 1000000)::bigint, verdict.attempts
        ),
        result = CASE WHEN result_ttl >= 0 THEN verdict.result END,
        result_until = CASE
            WHEN result_ttl >= 0 THEN now + result_ttl * interval '1 microsecond'
        END,
        ended_at = now, ended_as = 'succeeded', was_due_at = NULL,
        keep_until = now + retention * interval '1 microsecond'
    FROM verdict
    WHERE jobs.app = verdict.app AND jobs.id = verdict.id
        AND jobs.state = 'running' AND jobs.owner = %(owner)s
        AND jobs.fence = verdict.fence
        AND octet_length(jobs.history) <= 16000
    RETURNING jobs.id
),
held AS (
    UPDATE {schema}.keys
    SET expires_at = verdict.now + retention * interval '1 microsecond'
    FROM done JOIN verdict ON verdict.id = done.id
    WHERE keys.app = %(app)s AND verdict.key IS NOT NULL AND keys.key = verdict.key
        AND keys.job_id = done.id
)
SELECT id FROM done
