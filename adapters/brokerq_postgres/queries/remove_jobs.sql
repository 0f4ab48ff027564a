WITH gone AS (
    DELETE FROM {schema}.payloads WHERE app = %(app)s AND id = ANY (%(ids)s::text[])
)
DELETE FROM {schema}.jobs WHERE app = %(app)s AND id = ANY (%(ids)s::text[])
