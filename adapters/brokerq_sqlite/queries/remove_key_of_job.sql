DELETE FROM keys WHERE app = ? AND key = ? AND job_id = ?
