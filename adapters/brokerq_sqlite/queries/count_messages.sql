-- Each count is made of one partial index.
WITH its (id) AS (
    SELECT lanes.id FROM brokerq_lanes AS lanes
        JOIN brokerq_queues AS queues ON queues.id = lanes.queue
    WHERE queues.app = :app AND queues.name = :queue
)
SELECT
    (SELECT count(*) FROM brokerq_messages
     WHERE lane IN its AND state = 0 AND due_at <= :now)
    + (SELECT count(*) FROM brokerq_messages
       WHERE lane IN its AND state = 1 AND lease_until <= :mono)
    + (SELECT count(*) FROM brokerq_messages
       WHERE lane IN its AND state = 2 AND due_at <= :now),
    (SELECT count(*) FROM brokerq_messages
     WHERE lane IN its AND state = 1 AND lease_until > :mono),
    (SELECT count(*) FROM brokerq_messages
     WHERE lane IN its AND state = 0 AND due_at > :now)
    + (SELECT count(*) FROM brokerq_messages
       WHERE lane IN its AND state = 2 AND due_at > :now),
    (SELECT count(*) FROM brokerq_messages WHERE lane IN its AND state = 3),
    (SELECT min(due_at) FROM brokerq_messages
     WHERE lane IN its AND state = 0 AND due_at <= :now)
