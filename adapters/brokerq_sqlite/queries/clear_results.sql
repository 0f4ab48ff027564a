UPDATE brokerq_jobs SET result = NULL, result_until = NULL
WHERE app = :app AND id IN (
    SELECT id FROM brokerq_jobs
    WHERE app = :app AND result_until IS NOT NULL AND result <> x'6e756c6c'
        AND result_until <= :now
    LIMIT :limit
)
