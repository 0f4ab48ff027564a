UPDATE {schema}.letters SET state = 'redriving', closed_by = %(by)s, lease_until = %(until)s
FROM unnest(%(ids)s::text[], %(epochs)s::integer[]) AS begun (id, epoch)
WHERE letters.app = %(app)s AND letters.job_id = ANY (%(ids)s::text[])
    AND letters.job_id = begun.id AND letters.epoch = begun.epoch
