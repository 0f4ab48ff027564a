SELECT queues.name, lanes.level, lanes.id, queues.id, queues.ordered, queues.lease
FROM lanes JOIN queues ON queues.id = lanes.queue
WHERE queues.app = ?
ORDER BY queues.id, lanes.position
