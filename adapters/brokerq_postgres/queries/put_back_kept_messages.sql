UPDATE {schema}.outbox
SET state = 1, ready_at = now() + %(delay)s, holder = NULL, lease_until = 0
WHERE id = ANY (%(ids)s::bigint[]) AND app = %(app)s AND holder = %(owner)s
