UPDATE {schema}.jobs SET lease_until = new.lease_until
FROM unnest(%(ids)s::text[], %(leases)s::float8[]) AS new (id, lease_until)
WHERE jobs.app = %(app)s AND jobs.id = new.id
