-- Asked after the locks were waited for, so that it is the time of what is read and written.
SELECT
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    ARRAY(SELECT nextval('{schema}.fences') FROM generate_series(1, %(fences)s))
