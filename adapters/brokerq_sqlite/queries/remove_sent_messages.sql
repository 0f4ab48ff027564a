-- The plus: SQLite would else walk through all messages of the app.
DELETE FROM brokerq_outbox
WHERE +app = ? AND id IN (SELECT value FROM json_each(?)) AND holder = ?
RETURNING queue, order_key
