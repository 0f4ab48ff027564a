SELECT DISTINCT job_id FROM brokerq_letters
WHERE app = ? AND state = 'redriving' AND lease_until <= ?
ORDER BY job_id
LIMIT ?
