-- Their jobs are locked before, so nobody adds a newer one.
SELECT
    job_id, epoch, state, job, queue, level, reason, error_type, error_message, grouped, at,
    redrives, headers, body, note, closed_by, lease_until
FROM {schema}.letters
WHERE app = %(app)s AND job_id = ANY (%(ids)s::text[])
    AND NOT EXISTS (
        SELECT FROM {schema}.letters AS newer
        WHERE newer.app = letters.app AND newer.job_id = letters.job_id
            AND newer.epoch > letters.epoch
    )
ORDER BY job_id
FOR UPDATE OF letters
