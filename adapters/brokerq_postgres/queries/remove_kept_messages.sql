DELETE FROM {schema}.outbox WHERE job_id = %(job_id)s AND app = %(app)s
