INSERT INTO brokerq_keys (app, key, job_id, fingerprint, expires_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (app, key) DO UPDATE
SET job_id = excluded.job_id, fingerprint = excluded.fingerprint, expires_at = excluded.expires_at
