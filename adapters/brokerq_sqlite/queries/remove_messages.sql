DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?)) AND holder = ?
RETURNING id
