UPDATE brokerq_letters SET state = :state, closed_by = :by, note = :note
WHERE app = :app AND job_id = :id AND state = 'open'
    AND epoch = (SELECT max(epoch) FROM brokerq_letters WHERE app = :app AND job_id = :id)
