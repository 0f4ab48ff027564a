SELECT queue, state, count(*) FROM jobs INDEXED BY jobs_by_state
WHERE app = ? AND shown = 1
GROUP BY queue, state
