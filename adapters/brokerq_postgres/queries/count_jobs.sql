SELECT queue, state, count(*) FROM {schema}.jobs WHERE app = %(app)s AND shown GROUP BY queue, state
