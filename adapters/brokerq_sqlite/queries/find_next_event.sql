-- When the next message of the lane is due, and when the first lease in it ends.
SELECT
    (SELECT min(due_at) FROM brokerq_messages WHERE lane = :lane AND state = 0),
    (SELECT min(lease_until) FROM brokerq_messages WHERE lane = :lane AND state = 1)
