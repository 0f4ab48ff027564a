UPDATE {schema}.jobs
SET state = new.state, epoch = new.epoch, claimed = new.claimed, attempts = new.attempts,
    crashes = new.crashes, owner = new.owner, lease_until = new.lease_until, due_at = new.due_at,
    cancelling = new.cancelling, history = coalesce(new.trimmed, jobs.history) || new.line,
    failure = coalesce(new.failure, jobs.failure), note = coalesce(new.note, jobs.note),
    result = new.result, result_until = new.result_until, ended_at = new.ended_at,
    ended_as = CASE WHEN new.ended_at IS NOT NULL THEN new.state END,
    was_due_at = new.was_due_at, keep_until = new.keep_until
FROM unnest(
    %(ids)s::text[], %(states)s::text[], %(epochs)s::integer[], %(claimed)s::boolean[],
    %(attempts)s::integer[], %(crashes)s::integer[], %(owners)s::text[], %(leases)s::float8[],
    %(due_ats)s::timestamptz[], %(cancelling)s::boolean[], %(trimmed)s::text[], %(lines)s::text[],
    %(failures)s::text[], %(notes)s::text[], %(results)b::bytea[],
    %(result_untils)s::timestamptz[], %(ended_ats)s::timestamptz[], %(was_due_ats)s::timestamptz[],
    %(keep_untils)s::timestamptz[]
) AS new (
    id, state, epoch, claimed, attempts, crashes, owner, lease_until, due_at, cancelling, trimmed,
    line, failure, note, result, result_until, ended_at, was_due_at, keep_until
)
WHERE jobs.app = %(app)s AND jobs.id = new.id
