UPDATE brokerq_letters SET state = 'redriving', closed_by = ?, lease_until = ?
WHERE app = ? AND job_id = ? AND epoch = ?
