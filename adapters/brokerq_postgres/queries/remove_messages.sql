DELETE FROM {schema}.messages
WHERE id = ANY (%(ids)s::bigint[]) AND holder = %(holder)s
    AND (SELECT set_config('synchronous_commit', %(commit)s, true)) IS NOT NULL
RETURNING id
