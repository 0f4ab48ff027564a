-- Only what the rules need stays. Where nobody said for how long (the job was cancelled, or a
-- duplicate, and no worker gave its window), it stays for `unsaid` after its message may have come
-- up for the last time.
UPDATE brokerq_jobs
SET shown = 0, buried = 0, history = '', failure = NULL, note = NULL, result = NULL,
    result_until = NULL, log = NULL,
    keep_until = ifnull(keep_until, max(ended_at, ifnull(was_due_at, ended_at)) + :unsaid)
WHERE app = :app AND id IN (SELECT value FROM json_each(:ids))
    AND shown = 1 AND ended_at IS NOT NULL
