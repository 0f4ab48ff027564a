SELECT queue, count(*), sum(due_at <= :now), min(due_at) FROM brokerq_outbox
WHERE app = :app
GROUP BY queue
