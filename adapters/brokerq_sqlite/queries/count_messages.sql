-- Each count is made of one partial index.
WITH its (id) AS (
    SELECT lanes.id FROM lanes JOIN queues ON queues.id = lanes.queue
    WHERE queues.app = :app AND queues.name = :queue
)
SELECT
    (SELECT count(*) FROM messages
     WHERE lane IN its AND state = 0 AND due_at <= :now)
    + (SELECT count(*) FROM messages
       WHERE lane IN its AND state = 1 AND lease_until <= :mono)
    + (SELECT count(*) FROM messages
       WHERE lane IN its AND state = 2 AND due_at <= :now),
    (SELECT count(*) FROM messages
     WHERE lane IN its AND state = 1 AND lease_until > :mono),
    (SELECT count(*) FROM messages
     WHERE lane IN its AND state = 0 AND due_at > :now)
    + (SELECT count(*) FROM messages
       WHERE lane IN its AND state = 2 AND due_at > :now),
    (SELECT count(*) FROM messages WHERE lane IN its AND state = 3),
    (SELECT min(due_at) FROM messages
     WHERE lane IN its AND state = 0 AND due_at <= :now)
