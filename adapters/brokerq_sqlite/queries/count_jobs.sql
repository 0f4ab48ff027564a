SELECT queue, state, count(*) FROM brokerq_jobs INDEXED BY brokerq_jobs_by_state
WHERE app = ? AND shown = 1
GROUP BY queue, state
