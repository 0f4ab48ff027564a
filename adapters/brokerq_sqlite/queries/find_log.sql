SELECT log FROM brokerq_jobs WHERE app = ? AND id = ?
