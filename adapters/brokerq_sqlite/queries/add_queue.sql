INSERT INTO brokerq_queues (app, name, ordered, lease) VALUES (?, ?, ?, ?) RETURNING id
