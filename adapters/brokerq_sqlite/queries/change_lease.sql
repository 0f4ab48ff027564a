UPDATE brokerq_queues SET lease = ? WHERE app = ? AND name = ?
