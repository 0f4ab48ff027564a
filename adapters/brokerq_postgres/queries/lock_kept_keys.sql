-- Who keeps or ends a message with an ordering key does so alone.
SELECT pg_advisory_xact_lock(lock)
FROM (
    SELECT DISTINCT hashtextextended(
        format('{schema} outbox %%s %%s %%s', %(app)s, queue, order_key), 0
    ) AS lock
    FROM unnest(%(queues)s::text[], %(order_keys)s::text[]) AS kept (queue, order_key)
    WHERE order_key IS NOT NULL
    ORDER BY lock
) AS locks
