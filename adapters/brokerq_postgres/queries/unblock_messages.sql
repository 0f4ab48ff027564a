-- The first of each ordering key, where it is held back, may go.
UPDATE {schema}.messages SET state = 0
FROM (
    SELECT DISTINCT first.id
    FROM unnest(%(order_keys)s::text[]) AS freed (order_key), LATERAL (
        SELECT messages.id FROM {schema}.messages
        WHERE messages.order_key = freed.order_key
        ORDER BY messages.id
        LIMIT 1
    ) AS first
) AS next
WHERE messages.id = next.id AND messages.state = 1
RETURNING messages.lane, extract(epoch FROM messages.ready_at - clock_timestamp())::float8
