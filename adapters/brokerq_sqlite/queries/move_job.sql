UPDATE brokerq_jobs
SET state = ?, epoch = ?, claimed = ?, attempts = ?, crashes = ?, owner = ?, lease_until = ?,
    due_at = ?, cancelling = ?, history = ifnull(?, history) || ?,
    failure = ifnull(?, failure), note = ifnull(?, note), result = ?, result_until = ?,
    ended_at = ?, was_due_at = ?, keep_until = ?
WHERE app = ? AND id = ?
