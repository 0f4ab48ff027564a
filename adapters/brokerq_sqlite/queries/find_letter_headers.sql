SELECT headers FROM brokerq_letters WHERE app = ? AND job_id = ? AND epoch = ?
