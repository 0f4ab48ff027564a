UPDATE {schema}.keys
SET job_id = new.job_id, fingerprint = new.fingerprint, expires_at = new.expires_at
FROM unnest(
    %(keys)s::text[], %(ids)s::text[], %(fingerprints)s::text[], %(expires_ats)s::timestamptz[]
) AS new (key, job_id, fingerprint, expires_at)
WHERE keys.app = %(app)s AND keys.key = new.key
