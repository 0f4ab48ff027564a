DELETE FROM brokerq_messages INDEXED BY brokerq_messages_dead_by_job
WHERE state = 3
    AND job_id IN (SELECT json_extract(value, '$[0]') FROM json_each(:letters))
    AND lane IN (
        SELECT lanes.id FROM brokerq_lanes AS lanes
            JOIN brokerq_queues AS queues ON queues.id = lanes.queue
        WHERE queues.app = :app AND queues.name = :queue
    )
    AND (job_id, ifnull(json_extract(headers, '$."bq-epoch"'), '0')) IN (
        SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:letters)
    )
