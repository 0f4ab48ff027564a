UPDATE brokerq_jobs SET log = ? WHERE app = ? AND id = ?
