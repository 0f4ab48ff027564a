SELECT ifnull(max(id), 0) FROM brokerq_messages
