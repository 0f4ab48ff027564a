SELECT
    job_id, epoch, state, job, queue, level, reason, error_type, error_message, grouped, at,
    redrives, headers, body, note, closed_by, lease_until
FROM brokerq_letters
WHERE app = ? AND job_id = ?
ORDER BY epoch DESC
LIMIT 1
