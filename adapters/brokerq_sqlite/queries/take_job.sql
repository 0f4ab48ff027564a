UPDATE brokerq_jobs
SET state = ?, epoch = ?, claimed = ?, attempts = ?, crashes = ?, fence = ?, owner = ?, worker = ?,
    lease_until = ?, due_at = ?, history = ifnull(?, history) || ?
WHERE app = ? AND id = ?
