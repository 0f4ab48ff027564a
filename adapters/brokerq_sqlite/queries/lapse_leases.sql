UPDATE brokerq_messages SET state = 0, holder = NULL, lease_until = NULL
WHERE lane = ? AND state = 1 AND lease_until <= ?
