UPDATE about SET value = value + ? WHERE name = 'fence' RETURNING value
