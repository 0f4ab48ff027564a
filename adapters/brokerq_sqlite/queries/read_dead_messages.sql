SELECT due_at, id, headers, body FROM messages
WHERE lane IN (
        SELECT lanes.id FROM lanes JOIN queues ON queues.id = lanes.queue
        WHERE queues.app = :app AND queues.name = :queue
    )
    AND state = 3 AND (due_at, id) > (:after_due, :after_id)
ORDER BY due_at, id
LIMIT :limit
