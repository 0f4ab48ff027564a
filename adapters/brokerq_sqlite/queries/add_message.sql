INSERT INTO messages (lane, due_at, job_id, headers, body) VALUES (?, ?, ?, ?, ?)
