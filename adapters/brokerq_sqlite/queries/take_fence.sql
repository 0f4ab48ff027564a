UPDATE brokerq_about SET value = value + 1 WHERE name = 'fence' RETURNING value
