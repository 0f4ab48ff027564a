UPDATE brokerq_jobs
SET state = ?, first_at = ?, epoch = ?, claimed = ?, attempts = ?, crashes = ?, expires_at = ?,
    key = ?, redrives = ?, cancelling = ?, history = ifnull(?, history) || ?, note = NULL,
    ended_at = NULL, was_due_at = NULL, keep_until = NULL, shown = 1, buried = 0
WHERE app = ? AND id = ?
