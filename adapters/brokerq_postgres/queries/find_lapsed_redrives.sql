SELECT DISTINCT job_id FROM {schema}.letters
WHERE app = %(app)s AND state = 'redriving'
    AND lease_until <= extract(epoch FROM clock_timestamp())
ORDER BY job_id
LIMIT %(limit)s
