DELETE FROM {schema}.messages
WHERE id = ANY (%(ids)s::bigint[]) AND state < 2 AND (holder IS NULL OR ready_at <= now())
RETURNING id
