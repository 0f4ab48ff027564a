SELECT id, ended_at FROM brokerq_jobs
WHERE app = ? AND shown = 1 AND buried = 0 AND ended_at IS NOT NULL
ORDER BY ended_at
LIMIT ?
