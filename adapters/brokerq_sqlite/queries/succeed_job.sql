-- The end of most jobs: nothing is known of it but that it went well.
UPDATE jobs
SET state = 'succeeded', attempts = ?, crashes = ?, owner = NULL, lease_until = 0, due_at = NULL,
    cancelling = 0, history = ifnull(?, history) || ?, ended_at = ?, keep_until = ?
WHERE app = ? AND id = ?
