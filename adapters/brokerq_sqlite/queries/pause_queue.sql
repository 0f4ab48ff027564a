INSERT INTO pauses (app, queue, paused_by) VALUES (?, ?, ?) ON CONFLICT DO NOTHING
