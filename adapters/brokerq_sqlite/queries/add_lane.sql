INSERT INTO lanes (queue, level, position) VALUES (?, ?, ?)
