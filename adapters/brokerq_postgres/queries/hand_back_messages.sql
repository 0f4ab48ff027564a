UPDATE {schema}.messages
SET holder = NULL, ready_at = due_at, deliveries = deliveries - 1
WHERE id = ANY (%(ids)s::bigint[]) AND holder = %(holder)s
RETURNING id
