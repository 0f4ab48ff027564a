WITH its (id) AS (
    SELECT lanes.id FROM {schema}.lanes JOIN {schema}.queues ON queues.id = lanes.queue
    WHERE queues.app = %(app)s AND queues.name = %(queue)s
)
SELECT
    live.ready + blocked.ready, live.in_flight, live.delayed + blocked.delayed, dead.number,
    extract(epoch FROM now() - live.oldest)::float8
FROM
    (
        SELECT
            count(*) FILTER (WHERE ready_at <= now()) AS ready,
            count(*) FILTER (WHERE ready_at > now() AND holder IS NOT NULL) AS in_flight,
            count(*) FILTER (WHERE ready_at > now() AND holder IS NULL) AS delayed,
            min(ready_at) FILTER (WHERE ready_at <= now()) AS oldest
        FROM {schema}.messages WHERE state = 0 AND lane IN (SELECT id FROM its)
    ) AS live,
    (
        SELECT
            count(*) FILTER (WHERE ready_at <= now()) AS ready,
            count(*) FILTER (WHERE ready_at > now()) AS delayed
        FROM {schema}.messages WHERE state = 1 AND lane IN (SELECT id FROM its)
    ) AS blocked,
    (
        SELECT count(*) AS number
        FROM {schema}.messages WHERE state = 2 AND lane IN (SELECT id FROM its)
    ) AS dead
