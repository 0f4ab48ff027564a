-- As an array the rows are looked for once; a subquery might be run again, and find others.
DELETE FROM {schema}.letters
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {schema}.letters
    WHERE app = %(app)s AND at <= now() - %(dead)s AND state <> 'redriving'
    ORDER BY at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
))
RETURNING job_id, state
