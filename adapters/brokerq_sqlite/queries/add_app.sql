INSERT INTO brokerq_apps (prefix) VALUES (?) RETURNING id
