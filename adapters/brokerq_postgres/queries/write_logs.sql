UPDATE {schema}.jobs SET log = new.log
FROM unnest(%(ids)s::text[], %(logs)s::text[]) AS new (id, log)
WHERE jobs.app = %(app)s AND jobs.id = new.id
