SELECT queue, count(*), sum(due_at <= :now), min(due_at) FROM outbox
WHERE app = :app
GROUP BY queue
