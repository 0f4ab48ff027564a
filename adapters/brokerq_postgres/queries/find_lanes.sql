SELECT queues.name, lanes.level, lanes.id, queues.id, queues.ordered, queues.lease
FROM {schema}.lanes JOIN {schema}.queues ON queues.id = lanes.queue
WHERE queues.app = %(app)s
ORDER BY queues.id, lanes.position
