-- As brokerq.records.claim answers for a job that waits and is due; the others are left as they
-- are. Of an array whose values are all the same there is only the first. The app comes from where
-- the planner does not see that it is one: before there are statistics it would take all jobs of the
-- app for few, and read them.
UPDATE {schema}.jobs
SET state = 'running', epoch = greatest(jobs.epoch, head.epoch), claimed = true,
    attempts = greatest(jobs.attempts, head.attempts),
    crashes = greatest(jobs.crashes, head.crashes),
    fence = nextval('{schema}.fences'), owner = %(owner)s, worker = %(owner)s,
    lease_until = date_part('epoch', clock_timestamp()) + %(lease)s,
    due_at = CASE WHEN head.early THEN clock_timestamp() END,
    history = history || format(
        E'running %%s %%s\n', (date_part('epoch', clock_timestamp()) * 1000000)::bigint,
        greatest(jobs.attempts, head.attempts)
    )
FROM (
    SELECT
        id, coalesce(epoch, (%(epochs)s::integer[])[1]) AS epoch,
        coalesce(attempts, (%(attempts)s::integer[])[1]) AS attempts,
        coalesce(crashes, (%(crashes)s::integer[])[1]) AS crashes,
        coalesce(kept, (%(kept)s::boolean[])[1]) AS kept,
        coalesce(early, (%(early)s::boolean[])[1]) AS early, %(app)s::integer AS app
    FROM unnest(
        %(ids)s::text[], %(epochs)s::integer[], %(attempts)s::integer[], %(crashes)s::integer[],
        %(kept)s::boolean[], %(early)s::boolean[]
    ) AS head (id, epoch, attempts, crashes, kept, early)
    OFFSET 0
) AS head
WHERE jobs.app = head.app AND jobs.id = head.id
    AND jobs.state IN ('reserved', 'scheduled', 'queued', 'waiting', 'retrying')
    AND head.epoch >= jobs.epoch
    AND (
        jobs.due_at IS NULL OR jobs.due_at <= clock_timestamp()
        OR (head.kept AND NOT jobs.claimed AND jobs.state IN ('reserved', 'scheduled'))
    )
    AND octet_length(jobs.history) <= 16000
RETURNING
    jobs.id, jobs.fence, jobs.epoch, jobs.attempts, jobs.crashes, jobs.first_at, jobs.expires_at,
    jobs.redrives, jobs.key, date_part('epoch', clock_timestamp())
