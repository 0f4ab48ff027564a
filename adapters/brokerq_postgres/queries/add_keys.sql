INSERT INTO {schema}.keys (app, key, job_id, fingerprint, expires_at)
SELECT %(app)s, new.*
FROM unnest(
    %(keys)s::text[], %(ids)s::text[], %(fingerprints)s::text[], %(expires_ats)s::timestamptz[]
) AS new
