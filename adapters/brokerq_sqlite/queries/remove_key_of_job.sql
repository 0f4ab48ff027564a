DELETE FROM brokerq_keys WHERE app = ? AND key = ? AND job_id = ?
