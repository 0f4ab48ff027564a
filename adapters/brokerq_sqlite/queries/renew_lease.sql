UPDATE brokerq_jobs SET lease_until = ? WHERE app = ? AND id = ?
