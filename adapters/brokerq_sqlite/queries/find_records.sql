SELECT
    id, state, first_at, epoch, claimed, attempts, crashes, fence, owner, lease_until, due_at,
    expires_at, key, redrives, cancelling, CASE WHEN length(history) > 16000 THEN history END
FROM brokerq_jobs
WHERE app = ? AND id IN (SELECT value FROM json_each(?))
