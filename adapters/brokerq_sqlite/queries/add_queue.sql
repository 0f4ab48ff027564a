INSERT INTO queues (app, name, ordered, lease) VALUES (?, ?, ?, ?) RETURNING id
