DELETE FROM jobs
WHERE app = :app AND id IN (
    SELECT id FROM jobs
    WHERE app = :app AND shown = 0 AND keep_until <= :now
    LIMIT :limit
)
RETURNING id, state, key
