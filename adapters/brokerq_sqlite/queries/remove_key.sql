DELETE FROM brokerq_keys WHERE app = ? AND key = ?
