-- The first of each ordering key, where it was held back, may go.
UPDATE {schema}.outbox SET state = 0
FROM (
    SELECT DISTINCT first.id
    FROM unnest(%(queues)s::text[], %(order_keys)s::text[]) AS freed (queue, order_key), LATERAL (
        SELECT outbox.id FROM {schema}.outbox
        WHERE hashtextextended(outbox.order_key, 0) = hashtextextended(freed.order_key, 0)
            AND outbox.app = %(app)s AND outbox.queue = freed.queue
            AND outbox.order_key = freed.order_key
        ORDER BY outbox.id
        LIMIT 1
    ) AS first
) AS next
WHERE outbox.id = next.id AND outbox.state = 2
