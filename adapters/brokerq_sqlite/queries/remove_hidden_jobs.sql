DELETE FROM brokerq_jobs
WHERE app = :app AND id IN (
    SELECT id FROM brokerq_jobs
    WHERE app = :app AND shown = 0 AND keep_until <= :now
    LIMIT :limit
)
RETURNING id, state, key
