INSERT INTO {schema}.apps (prefix) VALUES (%(prefix)s) ON CONFLICT (prefix) DO NOTHING RETURNING id
