SELECT
    id, state, first_at, epoch, claimed, attempts, crashes, fence, owner, lease_until, due_at,
    expires_at, key, redrives, cancelling,
    CASE WHEN octet_length(history) > 16000 THEN history END
FROM {schema}.jobs
WHERE app = %(app)s AND id = ANY (%(ids)s::text[])
ORDER BY id
FOR UPDATE
