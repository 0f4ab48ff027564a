INSERT INTO brokerq_messages (lane, due_at, job_id, headers, body, order_key, state)
VALUES (
    :lane, :due, :job_id, :headers, :body, :order_key,
    CASE WHEN EXISTS (SELECT 1 FROM brokerq_messages WHERE order_key = :order_key) THEN 2 ELSE 0 END
)
