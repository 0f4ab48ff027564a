UPDATE queues SET lease = ? WHERE app = ? AND name = ?
