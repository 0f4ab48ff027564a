SELECT count(*) FROM brokerq_jobs
WHERE app = ? AND shown = 1 AND buried = 0 AND ended_at IS NOT NULL
