-- Of one that ended well a redrive's copy had come; its letter need not wait for that any more.
WITH removed AS (
    DELETE FROM {schema}.jobs
    WHERE app = %(app)s AND id = ANY (ARRAY(
        SELECT id FROM {schema}.jobs
        WHERE app = %(app)s AND NOT shown AND keep_until <= now()
        ORDER BY keep_until
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ))
    RETURNING id, state, key
),
confirmed AS (
    UPDATE {schema}.letters SET state = 'redriven'
    FROM removed
    WHERE letters.app = %(app)s AND letters.job_id = removed.id AND letters.state = 'redriving'
        AND removed.state NOT IN ('dead', 'expired')
),
freed AS (
    DELETE FROM {schema}.keys
    USING removed
    WHERE keys.app = %(app)s AND removed.key IS NOT NULL AND keys.key = removed.key
        AND keys.job_id = removed.id
)
SELECT id FROM removed
