SELECT due_at, id, headers, body FROM brokerq_messages
WHERE lane IN (
        SELECT lanes.id FROM brokerq_lanes AS lanes
            JOIN brokerq_queues AS queues ON queues.id = lanes.queue
        WHERE queues.app = :app AND queues.name = :queue
    )
    AND state = 3 AND (due_at, id) > (:after_due, :after_id)
ORDER BY due_at, id
LIMIT :limit
