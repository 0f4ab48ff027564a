UPDATE {schema}.jobs
SET state = 'running', epoch = new.epoch, claimed = true, attempts = new.attempts,
    crashes = new.crashes, fence = new.fence, owner = new.owner, worker = new.owner,
    lease_until = new.lease_until, due_at = new.due_at,
    history = coalesce(new.trimmed, jobs.history) || new.line
FROM unnest(
    %(ids)s::text[], %(epochs)s::integer[], %(attempts)s::integer[], %(crashes)s::integer[],
    %(fences)s::bigint[], %(owners)s::text[], %(leases)s::float8[], %(due_ats)s::timestamptz[],
    %(trimmed)s::text[], %(lines)s::text[]
) AS new (id, epoch, attempts, crashes, fence, owner, lease_until, due_at, trimmed, line)
WHERE jobs.app = %(app)s AND jobs.id = new.id
