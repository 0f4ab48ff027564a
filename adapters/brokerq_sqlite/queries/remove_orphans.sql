-- Reserved, and never heard of again: if the message is in the broker after all, its first claim
-- records the job anew.
DELETE FROM brokerq_jobs
WHERE app = :app AND id IN (
    SELECT id FROM brokerq_jobs INDEXED BY brokerq_jobs_by_state
    WHERE app = :app AND state = 'reserved' AND shown = 1
        AND first_at <= :oldest AND lease_until <= :mono
    LIMIT :limit
)
RETURNING id, key
