DELETE FROM brokerq_messages WHERE id IN (SELECT value FROM json_each(?)) AND holder = ?
