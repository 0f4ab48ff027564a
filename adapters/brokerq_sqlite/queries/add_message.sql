INSERT INTO brokerq_messages (lane, due_at, job_id, headers, body) VALUES (?, ?, ?, ?, ?)
