UPDATE brokerq_messages SET lease_until = ?
WHERE id IN (SELECT value FROM json_each(?)) AND holder = ?
RETURNING id
