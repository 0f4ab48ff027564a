SELECT queues.name, lanes.level, lanes.id, queues.id, queues.ordered, queues.lease
FROM brokerq_lanes AS lanes JOIN brokerq_queues AS queues ON queues.id = lanes.queue
WHERE queues.app = ?
ORDER BY queues.id, lanes.position
