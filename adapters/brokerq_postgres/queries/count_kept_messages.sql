SELECT
    queue, count(*), count(*) FILTER (WHERE due_at <= now()),
    (extract(epoch FROM now() - min(due_at)) * 1000000)::bigint
FROM {schema}.outbox
WHERE app = %(app)s
GROUP BY queue
