-- Only what the rules need stays. Where nobody said for how long (the job was cancelled, or a
-- duplicate, and no worker gave its window), it stays for `unsaid` after its message may have come
-- up for the last time.
WITH wanted AS (
    SELECT id FROM {schema}.jobs
    WHERE app = %(app)s AND id = ANY (%(ids)s::text[])
    ORDER BY id
    FOR UPDATE
),
hidden AS (
    UPDATE {schema}.jobs
    SET shown = false, buried = false, history = '', failure = NULL, note = NULL, result = NULL,
        result_until = NULL, log = NULL,
        keep_until = coalesce(
            keep_until, greatest(ended_at, coalesce(was_due_at, ended_at)) + %(unsaid)s
        )
    WHERE app = %(app)s AND id IN (SELECT id FROM wanted) AND shown AND ended_at IS NOT NULL
    RETURNING id
),
gone AS (
    DELETE FROM {schema}.payloads WHERE app = %(app)s AND id IN (SELECT id FROM hidden)
)
SELECT id FROM hidden
