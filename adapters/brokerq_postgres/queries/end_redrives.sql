UPDATE {schema}.letters SET state = 'redriven'
FROM unnest(%(ids)s::text[], %(epochs)s::integer[]) AS ended (id, epoch)
WHERE letters.app = %(app)s AND letters.job_id = ANY (%(ids)s::text[])
    AND letters.job_id = ended.id AND letters.epoch = ended.epoch
    AND letters.state = 'redriving'
