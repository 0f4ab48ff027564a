-- The end of most jobs: nothing is known of them but that they went well.
UPDATE brokerq_jobs
SET state = 'succeeded', attempts = ?, crashes = ?, owner = NULL, lease_until = 0, due_at = NULL,
    cancelling = 0, history = history || ?, result = ?, result_until = ?, ended_at = ?,
    keep_until = ?
WHERE app = ? AND id IN (SELECT value FROM json_each(?))
