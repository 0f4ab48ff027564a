UPDATE jobs SET result = NULL, result_until = NULL
WHERE app = :app AND id IN (
    SELECT id FROM jobs
    WHERE app = :app AND result_until IS NOT NULL AND result_until <= :now
    LIMIT :limit
)
