DELETE FROM {schema}.outbox
WHERE id = ANY (%(ids)s::bigint[]) AND app = %(app)s AND holder = %(owner)s
