-- Most jobs return nothing: forgetting that would free nothing.
DROP INDEX jobs_with_result;
CREATE INDEX jobs_with_result ON jobs (app, result_until)
    WHERE result_until IS NOT NULL AND result <> x'6e756c6c';
