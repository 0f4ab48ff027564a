UPDATE letters SET state = 'redriven' WHERE app = ? AND job_id = ? AND state = 'redriving'
