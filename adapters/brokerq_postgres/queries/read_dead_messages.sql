SELECT ready_at, id, headers, body FROM {schema}.messages
WHERE lane IN (
        SELECT lanes.id FROM {schema}.lanes JOIN {schema}.queues ON queues.id = lanes.queue
        WHERE queues.app = %(app)s AND queues.name = %(queue)s
    )
    AND state = 2 AND (ready_at, id) > (%(after)s, %(after_id)s)
ORDER BY ready_at, id
LIMIT %(limit)s
