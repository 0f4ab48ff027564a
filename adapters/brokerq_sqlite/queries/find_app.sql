SELECT id FROM brokerq_apps WHERE prefix = ?
