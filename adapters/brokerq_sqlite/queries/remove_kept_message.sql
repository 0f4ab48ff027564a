DELETE FROM outbox WHERE app = ? AND job_id = ? RETURNING queue, order_key
