DELETE FROM brokerq_payloads WHERE app = ? AND id = ?
