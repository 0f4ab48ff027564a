INSERT INTO {schema}.payloads (app, id, headers, body)
SELECT %(app)s, new.*
FROM unnest(%(ids)s::text[], %(headers)s::text[], %(bodies)b::bytea[]) AS new
ON CONFLICT (app, id) DO NOTHING
