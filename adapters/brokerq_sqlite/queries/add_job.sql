INSERT INTO brokerq_jobs (
    app, id, state, first_at, epoch, claimed, attempts, crashes, fence, owner, lease_until, due_at,
    expires_at, key, redrives, cancelling, job, queue, level, user_key, tags, correlation, cause,
    worker, history, note, ended_at
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
