INSERT INTO brokerq_payloads (app, id, headers, body) VALUES (?, ?, ?, ?)
ON CONFLICT (app, id) DO NOTHING
