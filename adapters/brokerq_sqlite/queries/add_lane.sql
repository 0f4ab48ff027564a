INSERT INTO brokerq_lanes (queue, level, position) VALUES (?, ?, ?)
