WITH queue AS (
    INSERT INTO {schema}.queues (app, name, ordered, lease)
    VALUES (%(app)s, %(name)s, %(ordered)s, %(lease)s)
    RETURNING id
)
INSERT INTO {schema}.lanes (queue, level, position)
SELECT queue.id, levels.level, levels.position
FROM queue, unnest(%(levels)s::text[]) WITH ORDINALITY AS levels (level, position)
