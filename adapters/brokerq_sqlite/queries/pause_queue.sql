INSERT INTO brokerq_pauses (app, queue, paused_by) VALUES (?, ?, ?) ON CONFLICT DO NOTHING
