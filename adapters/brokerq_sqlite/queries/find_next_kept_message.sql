SELECT min(ready_at) FROM (
    SELECT ready_at FROM (
        SELECT ready_at - :ahead AS ready_at FROM brokerq_outbox AS outbox
        WHERE app = :app AND state = 0 AND (holder IS NULL OR lease_until <= :mono)
        ORDER BY outbox.ready_at LIMIT 1
    )
    UNION ALL
    SELECT ready_at FROM (
        SELECT ready_at FROM brokerq_outbox AS outbox
        WHERE app = :app AND state = 1 AND (holder IS NULL OR lease_until <= :mono)
        ORDER BY ready_at LIMIT 1
    )
)
