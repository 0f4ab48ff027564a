SELECT key, job_id, fingerprint, expires_at FROM brokerq_keys
WHERE app = ? AND key IN (SELECT value FROM json_each(?))
