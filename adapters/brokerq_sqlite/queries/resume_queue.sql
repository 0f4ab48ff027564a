DELETE FROM brokerq_pauses WHERE app = ? AND queue = ?
