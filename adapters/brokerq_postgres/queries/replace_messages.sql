UPDATE {schema}.messages
SET holder = NULL, deliveries = 0, headers = copy.headers, body = copy.body,
    ready_at = now() + copy.delay * interval '1 microsecond',
    due_at = now() + copy.delay * interval '1 microsecond'
FROM unnest(
    %(ids)s::bigint[], %(delays)s::bigint[], %(headers)s::text[], %(bodies)b::bytea[]
) AS copy (id, delay, headers, body)
WHERE messages.id = copy.id AND messages.holder = %(holder)s
RETURNING messages.id, extract(epoch FROM messages.ready_at - now())::float8
