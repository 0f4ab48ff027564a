DELETE FROM brokerq_letters WHERE rowid IN (
    SELECT rowid FROM brokerq_letters
    WHERE app = ? AND at <= ? AND state <> 'redriving'
    ORDER BY at
    LIMIT ?
)
RETURNING job_id, state
