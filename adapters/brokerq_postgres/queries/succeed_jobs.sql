-- The end of most jobs. What was known of them when they were claimed is as it was: whoever changed
-- it would have had to take the fence away.
WITH verdict AS MATERIALIZED (
    SELECT verdict.*, clock_timestamp() AS now
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
            E'succeeded %%s %%s\n', (extract(epoch FROM now) * 1000000)::bigint, verdict.attempts
        ),
        result = verdict.result, result_until = now + result_ttl * interval '1 microsecond',
        ended_at = now, ended_as = 'succeeded', was_due_at = NULL,
        keep_until = now + retention * interval '1 microsecond'
    FROM verdict
    WHERE jobs.app = %(app)s AND jobs.id = verdict.id
        AND jobs.state = 'running' AND jobs.owner = %(owner)s
        AND jobs.fence = verdict.fence
        AND octet_length(jobs.history) <= 16000
    RETURNING jobs.id
),
held AS (
    UPDATE {schema}.keys
    SET expires_at = verdict.now + retention * interval '1 microsecond'
    FROM done JOIN verdict ON verdict.id = done.id
    WHERE keys.app = %(app)s AND keys.key = verdict.key
        AND keys.job_id = done.id
)
SELECT id FROM done
