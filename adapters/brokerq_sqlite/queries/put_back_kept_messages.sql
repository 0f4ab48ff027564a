-- The plus: SQLite would else walk through all messages of the app.
UPDATE brokerq_outbox SET state = 1, ready_at = ?, holder = NULL, lease_until = 0
WHERE +app = ? AND id IN (SELECT value FROM json_each(?)) AND holder = ?
