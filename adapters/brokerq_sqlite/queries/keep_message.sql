INSERT INTO brokerq_outbox (
    app, job_id, queue, level, state, due_at, ready_at, order_key, tenant, headers, body
)
VALUES (
    :app, :job_id, :queue, :level,
    CASE WHEN EXISTS (
        SELECT 1 FROM brokerq_outbox
        WHERE app = :app AND queue = :queue AND order_key = :order_key
    ) THEN 2 ELSE 0 END,
    :due, :due, :order_key, :tenant, :headers, :body
)
