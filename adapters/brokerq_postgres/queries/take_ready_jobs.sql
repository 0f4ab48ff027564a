-- As brokerq.records.claim answers for a job that waits and is due; the others are left as they
-- are.
UPDATE {schema}.jobs
SET state = 'running', epoch = greatest(jobs.epoch, head.epoch), claimed = true,
    attempts = greatest(jobs.attempts, head.attempts),
    crashes = greatest(jobs.crashes, head.crashes),
    fence = nextval('{schema}.fences'), owner = %(owner)s, worker = %(owner)s,
    lease_until = extract(epoch FROM clock_timestamp()) + %(lease)s, due_at = NULL,
    history = history || format(
        E'running %%s %%s\n', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
        greatest(jobs.attempts, head.attempts)
    )
FROM unnest(
    %(ids)s::text[], %(epochs)s::integer[], %(attempts)s::integer[], %(crashes)s::integer[],
    %(kept)s::boolean[]
) AS head (id, epoch, attempts, crashes, kept)
WHERE jobs.app = %(app)s AND jobs.id = head.id
    AND jobs.state IN ('reserved', 'scheduled', 'queued', 'waiting', 'retrying')
    AND head.epoch >= jobs.epoch
    AND (
        jobs.due_at IS NULL OR jobs.due_at <= clock_timestamp()
        OR (head.kept AND NOT jobs.claimed AND jobs.state IN ('reserved', 'scheduled'))
    )
    AND octet_length(jobs.history) <= 16000
RETURNING
    jobs.id, jobs.fence, jobs.epoch, jobs.attempts, jobs.crashes, jobs.first_at, jobs.expires_at,
    jobs.redrives, jobs.key, clock_timestamp()
