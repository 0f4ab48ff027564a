UPDATE brokerq_jobs
SET state = ?, first_at = ?, epoch = ?, claimed = ?, attempts = ?, crashes = ?, fence = ?,
    owner = ?, lease_until = ?, due_at = ?, expires_at = ?, key = ?, redrives = ?, cancelling = ?
WHERE app = ? AND id = ?
