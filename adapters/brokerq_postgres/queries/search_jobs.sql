SELECT
    id, job, queue, level, state, epoch, attempts, crashes, redrives, first_at,
    CASE WHEN due_at > clock_timestamp() THEN due_at END, expires_at, ended_at, user_key, tags,
    correlation, cause, worker, cancelling, history,
    CASE WHEN result_until > clock_timestamp() THEN result END, failure, note, NULL, NULL, NULL
FROM {schema}.jobs
WHERE app = %(app)s AND shown
