UPDATE brokerq_jobs SET cancelling = 1 WHERE app = ? AND id = ?
