INSERT INTO apps (prefix) VALUES (?) RETURNING id
