SELECT queue, order_key FROM {schema}.outbox
WHERE app = %(app)s AND order_key IS NOT NULL AND job_id = %(job_id)s
