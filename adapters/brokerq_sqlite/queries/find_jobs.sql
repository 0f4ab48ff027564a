SELECT
    jobs.id, job, queue, level, state, epoch, attempts, crashes, redrives, first_at, due_at,
    expires_at, ended_at, user_key, tags, correlation, cause, worker, cancelling, history,
    result, result_until, failure, note, log, payloads.headers, payloads.body
FROM brokerq_jobs AS jobs
    LEFT JOIN brokerq_payloads AS payloads ON payloads.app = jobs.app AND payloads.id = jobs.id
WHERE jobs.app = ? AND shown = 1 AND jobs.id IN (SELECT value FROM json_each(?))
