UPDATE brokerq_jobs SET buried = ? WHERE app = ? AND id = ?
