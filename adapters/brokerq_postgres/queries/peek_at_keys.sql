SELECT job_id FROM {schema}.keys WHERE app = %(app)s AND key = ANY (%(keys)s::text[])
