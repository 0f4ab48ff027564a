-- {index}: which index to use, where SQLite would rather walk through all ids.
SELECT
    id, job, queue, level, state, epoch, attempts, crashes, redrives, first_at, due_at,
    expires_at, ended_at, user_key, tags, correlation, cause, worker, cancelling, history,
    result, result_until, failure, note, NULL, NULL, NULL
FROM brokerq_jobs {index}
WHERE app = :app AND shown = 1
