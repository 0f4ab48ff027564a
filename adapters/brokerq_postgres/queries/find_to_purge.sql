SELECT id, order_key FROM {schema}.messages
WHERE lane = %(lane)s AND state = %(state)s AND id <= %(last)s
    AND (holder IS NULL OR ready_at <= now())
LIMIT %(limit)s
