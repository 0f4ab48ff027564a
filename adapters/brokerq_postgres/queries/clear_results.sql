-- As the index has it: a null is left to go with the row.
UPDATE {schema}.jobs SET result = NULL, result_until = NULL
WHERE app = %(app)s AND id = ANY (ARRAY(
    SELECT id FROM {schema}.jobs
    WHERE app = %(app)s AND result_until IS NOT NULL AND result <> 'null'
        AND result_until <= now()
    ORDER BY id
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
RETURNING id
