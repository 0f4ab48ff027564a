SELECT id FROM {schema}.apps WHERE prefix = %(prefix)s
