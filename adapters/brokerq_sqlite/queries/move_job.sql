UPDATE jobs
SET state = ?, epoch = ?, claimed = ?, attempts = ?, crashes = ?, owner = ?, lease_until = ?,
    due_at = ?, cancelling = ?, history = ifnull(?, history) || ?,
    failure = ifnull(?, failure), note = ifnull(?, note),
    ended_at = ?, was_due_at = ?, keep_until = ?, result = ?, result_until = ?
WHERE app = ? AND id = ?
