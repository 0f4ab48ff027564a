DELETE FROM brokerq_payloads
WHERE app = :app AND id IN (
    SELECT id FROM brokerq_jobs
    WHERE app = :app AND shown = 0 AND id IN (SELECT value FROM json_each(:ids))
)
