-- A job's row grows with each step. With half of a page left free every fifth row had to go to
-- another page when its job began, and so into all indexes again. Rows that are there stay where
-- they are.
ALTER TABLE {schema}.jobs SET (fillfactor = 40);

-- Most jobs return nothing, and a null need not be looked for to be cleared away: it is not shown
-- past its time, and goes with the row.
DROP INDEX {schema}.jobs_with_result;
CREATE INDEX jobs_with_result ON {schema}.jobs (app, result_until)
    WHERE result_until IS NOT NULL AND result <> 'null';
