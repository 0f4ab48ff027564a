UPDATE brokerq_messages
SET state = 3, holder = NULL, lease_until = NULL, order_key = NULL, due_at = :now,
    job_id = ifnull(:job_id, job_id), headers = :headers, body = :body
WHERE id = :id AND holder = :holder
RETURNING due_at
