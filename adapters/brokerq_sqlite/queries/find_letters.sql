SELECT
    job_id, epoch, state, job, queue, level, reason, error_type, error_message, grouped, at,
    redrives, headers, body, note, closed_by, lease_until
FROM brokerq_letters AS letters
WHERE app = :app
    AND epoch = (
        SELECT max(newest.epoch) FROM brokerq_letters AS newest
        WHERE newest.app = letters.app AND newest.job_id = letters.job_id
    )
