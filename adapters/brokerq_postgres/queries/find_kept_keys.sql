SELECT queue, order_key FROM {schema}.outbox
WHERE app = %(app)s AND order_key IS NOT NULL AND id = ANY (%(ids)s::bigint[])
