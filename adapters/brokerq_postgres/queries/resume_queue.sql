DELETE FROM {schema}.pauses WHERE app = %(app)s AND queue = %(queue)s
