INSERT INTO {schema}.pauses (app, queue, paused_by) VALUES (%(app)s, %(queue)s, %(by)s)
ON CONFLICT DO NOTHING
