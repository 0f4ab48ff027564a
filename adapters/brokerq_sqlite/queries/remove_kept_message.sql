DELETE FROM brokerq_outbox WHERE app = ? AND job_id = ? RETURNING queue, order_key
