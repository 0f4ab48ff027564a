-- To be had after `delay` microseconds, or, where that is null, at once and in their old place.
UPDATE {schema}.messages
SET holder = NULL,
    ready_at = coalesce(now() + back.delay * interval '1 microsecond', messages.due_at),
    due_at = coalesce(now() + back.delay * interval '1 microsecond', messages.due_at)
FROM unnest(%(ids)s::bigint[], %(delays)s::bigint[]) AS back (id, delay)
WHERE messages.id = back.id AND messages.holder = %(holder)s
RETURNING messages.id, extract(epoch FROM messages.ready_at - now())::float8
