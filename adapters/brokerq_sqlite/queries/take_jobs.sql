-- As take_job.sql, for jobs of which nothing else changes: most are taken so.
UPDATE brokerq_jobs
SET state = 'running', claimed = 1, fence = ?, owner = ?, worker = ?, lease_until = ?,
    due_at = ?, history = history || ?
WHERE app = ? AND id IN (SELECT value FROM json_each(?))
