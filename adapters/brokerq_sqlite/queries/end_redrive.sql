UPDATE brokerq_letters SET state = 'redriven'
WHERE app = ? AND job_id = ? AND epoch = ? AND state = 'redriving'
