SELECT key, job_id, fingerprint, expires_at FROM {schema}.keys
WHERE app = %(app)s AND key = ANY (%(keys)s::text[])
ORDER BY key
FOR UPDATE
