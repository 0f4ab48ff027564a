SELECT
    jobs.id, job, queue, level, state, epoch, attempts, crashes, redrives, first_at,
    CASE WHEN due_at > clock_timestamp() THEN due_at END, expires_at, ended_at, user_key, tags,
    correlation, cause, worker, cancelling, history,
    CASE WHEN result_until > clock_timestamp() THEN result END, failure, note, log,
    payloads.headers, payloads.body
FROM {schema}.jobs
LEFT JOIN {schema}.payloads ON payloads.app = jobs.app AND payloads.id = jobs.id
WHERE jobs.app = %(app)s AND shown AND jobs.id = ANY (%(ids)s::text[])
