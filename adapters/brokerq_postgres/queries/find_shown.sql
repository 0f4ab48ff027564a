SELECT FROM {schema}.jobs WHERE app = %(app)s AND id = %(id)s AND shown
