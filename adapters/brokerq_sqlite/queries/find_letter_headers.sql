SELECT headers FROM letters WHERE app = ? AND job_id = ? AND epoch = ?
