WITH closed AS (
    UPDATE {schema}.letters
    SET state = %(state)s, closed_by = %(by)s, note = %(note)s
    WHERE app = %(app)s AND job_id = ANY (%(ids)s::text[]) AND state = 'open'
        AND NOT EXISTS (
            SELECT FROM {schema}.letters AS newer
            WHERE newer.app = letters.app AND newer.job_id = letters.job_id
                AND newer.epoch > letters.epoch
        )
    RETURNING job_id
),
done AS (
    UPDATE {schema}.jobs SET buried = false
    WHERE app = %(app)s AND id IN (SELECT job_id FROM closed)
)
SELECT job_id FROM closed
