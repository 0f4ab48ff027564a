UPDATE {schema}.jobs
SET state = new.state, first_at = new.first_at, epoch = new.epoch, claimed = new.claimed,
    attempts = new.attempts, crashes = new.crashes, expires_at = new.expires_at, key = new.key,
    redrives = new.redrives, cancelling = new.cancelling,
    history = coalesce(new.trimmed, jobs.history) || new.line, note = NULL, ended_at = NULL,
    ended_as = NULL, was_due_at = NULL, keep_until = NULL, shown = true, buried = false
FROM unnest(
    %(ids)s::text[], %(states)s::text[], %(first_ats)s::timestamptz[], %(epochs)s::integer[],
    %(claimed)s::boolean[], %(attempts)s::integer[], %(crashes)s::integer[],
    %(expires_ats)s::timestamptz[], %(keys)s::text[], %(redrives)s::integer[],
    %(cancelling)s::boolean[], %(trimmed)s::text[], %(lines)s::text[]
) AS new (
    id, state, first_at, epoch, claimed, attempts, crashes, expires_at, key, redrives, cancelling,
    trimmed, line
)
WHERE jobs.app = %(app)s AND jobs.id = new.id
