SELECT queue FROM {schema}.pauses WHERE app = %(app)s
