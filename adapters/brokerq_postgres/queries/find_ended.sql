-- The oldest, where they are too old or too many.
WITH shown AS (
    SELECT count(*) AS number FROM {schema}.jobs
    WHERE app = %(app)s AND ended_at IS NOT NULL AND shown AND NOT buried
)
SELECT id
FROM (
    SELECT id, ended_at, row_number() OVER (ORDER BY ended_at) AS place
    FROM {schema}.jobs
    WHERE app = %(app)s AND ended_at IS NOT NULL AND shown AND NOT buried
    ORDER BY ended_at
    LIMIT %(limit)s
) AS oldest, shown
WHERE place <= shown.number - %(most)s OR ended_at <= now() - %(finished)s
