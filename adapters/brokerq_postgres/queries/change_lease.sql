UPDATE {schema}.queues SET lease = %(lease)s WHERE app = %(app)s AND name = %(name)s
