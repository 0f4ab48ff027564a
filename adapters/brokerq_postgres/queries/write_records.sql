UPDATE {schema}.jobs
SET state = new.state, first_at = new.first_at, epoch = new.epoch, claimed = new.claimed,
    attempts = new.attempts, crashes = new.crashes, fence = new.fence, owner = new.owner,
    lease_until = new.lease_until, due_at = new.due_at, expires_at = new.expires_at,
    key = new.key, redrives = new.redrives, cancelling = new.cancelling
FROM unnest(
    %(ids)s::text[], %(states)s::text[], %(first_ats)s::timestamptz[], %(epochs)s::integer[],
    %(claimed)s::boolean[], %(attempts)s::integer[], %(crashes)s::integer[], %(fences)s::bigint[],
    %(owners)s::text[], %(leases)s::float8[], %(due_ats)s::timestamptz[],
    %(expires_ats)s::timestamptz[], %(keys)s::text[], %(redrives)s::integer[],
    %(cancelling)s::boolean[]
) AS new (
    id, state, first_at, epoch, claimed, attempts, crashes, fence, owner, lease_until, due_at,
    expires_at, key, redrives, cancelling
)
WHERE jobs.app = %(app)s AND jobs.id = new.id
