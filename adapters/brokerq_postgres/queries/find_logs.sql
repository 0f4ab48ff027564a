SELECT id, log FROM {schema}.jobs WHERE app = %(app)s AND id = ANY (%(ids)s::text[])
