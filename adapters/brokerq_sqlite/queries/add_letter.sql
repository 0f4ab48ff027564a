INSERT INTO brokerq_letters (
    app, job_id, epoch, state, job, queue, level, reason, error_type, error_message, grouped, at,
    redrives, headers, body
)
SELECT
    app, id, :epoch, 'open', job, queue, level, :reason, :error_type, :error_message, :grouped,
    :at, :redrives, :headers, :body
FROM brokerq_jobs
WHERE app = :app AND id = :id AND shown = 1
ON CONFLICT (app, job_id, epoch) DO NOTHING
