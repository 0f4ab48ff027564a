UPDATE {schema}.messages
SET ready_at = now() + %(lease)s * interval '1 second'
WHERE id = ANY (%(ids)s::bigint[]) AND holder = %(holder)s
    AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL
RETURNING id
