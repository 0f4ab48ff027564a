SELECT queue FROM brokerq_pauses WHERE app = ?
