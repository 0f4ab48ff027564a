SELECT headers FROM {schema}.letters
WHERE app = %(app)s AND job_id = %(id)s AND epoch = %(epoch)s
