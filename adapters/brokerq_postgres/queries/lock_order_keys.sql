SELECT pg_advisory_xact_lock(lock)
FROM (
    SELECT DISTINCT hashtextextended('{schema}/' || order_key, 0) AS lock
    FROM unnest(%(order_keys)s::text[]) AS sent (order_key)
    WHERE order_key IS NOT NULL
    ORDER BY lock
) AS locks
