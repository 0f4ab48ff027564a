-- As add_job.sql, for a job that nobody has claimed or reserved: most are recorded so.
INSERT INTO brokerq_jobs (
    app, id, state, first_at, epoch, claimed, attempts, crashes, fence, lease_until, due_at,
    expires_at, key, redrives, cancelling, job, queue, level, user_key, tags, correlation, cause,
    history
) VALUES (?, ?, ?, ?, ?, 0, ?, ?, 0, 0, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?)
