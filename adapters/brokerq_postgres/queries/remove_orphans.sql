-- Reserved, and never heard of again: if the message is in the broker after all, its first claim
-- records the job anew.
WITH removed AS (
    DELETE FROM {schema}.jobs
    WHERE app = %(app)s AND id = ANY (ARRAY(
        SELECT id FROM {schema}.jobs
        WHERE app = %(app)s AND ended_at IS NULL AND state = 'reserved' AND shown
            AND first_at <= now() - %(dead)s
            AND lease_until <= extract(epoch FROM clock_timestamp())
        ORDER BY id
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING id, key
),
gone AS (
    DELETE FROM {schema}.payloads USING removed
    WHERE payloads.app = %(app)s AND payloads.id = removed.id
),
freed AS (
    DELETE FROM {schema}.keys
    USING removed
    WHERE keys.app = %(app)s AND removed.key IS NOT NULL AND keys.key = removed.key
        AND keys.job_id = removed.id
)
SELECT id FROM removed
