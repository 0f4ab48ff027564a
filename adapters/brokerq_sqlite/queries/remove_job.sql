DELETE FROM brokerq_jobs WHERE app = ? AND id = ?
