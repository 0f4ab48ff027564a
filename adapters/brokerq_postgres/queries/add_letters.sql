-- The letter of an earlier redrive is confirmed: its copy came, or the job could not die again.
WITH new AS (
    SELECT * FROM unnest(
        %(ids)s::text[], %(epochs)s::integer[], %(redrives)s::integer[], %(reasons)s::text[],
        %(error_types)s::text[], %(error_messages)s::text[], %(groups)s::text[],
        %(headers)s::text[], %(bodies)b::bytea[]
    ) AS new (
        id, epoch, redrives, reason, error_type, error_message, grouped, headers, body
    )
),
buried AS (
    UPDATE {schema}.jobs SET buried = true
    FROM new
    WHERE jobs.app = %(app)s AND jobs.id = new.id
),
confirmed AS (
    UPDATE {schema}.letters SET state = 'redriven'
    FROM new
    WHERE letters.app = %(app)s AND letters.job_id = ANY (%(ids)s::text[])
        AND letters.job_id = new.id AND letters.state = 'redriving' AND letters.epoch <> new.epoch
)
INSERT INTO {schema}.letters (
    app, job_id, epoch, state, job, queue, level, reason, error_type, error_message, grouped, at,
    redrives, headers, body
)
SELECT
    jobs.app, jobs.id, new.epoch, 'open', jobs.job, jobs.queue, jobs.level, new.reason,
    new.error_type, new.error_message, new.grouped, %(at)s, new.redrives, new.headers, new.body
FROM new JOIN {schema}.jobs ON jobs.app = %(app)s AND jobs.id = new.id
WHERE jobs.shown
ON CONFLICT (app, job_id, epoch) DO NOTHING
