-- From one tenant of the lane, in order. What is held for too long is free again by itself: its
-- `ready_at` has passed. The loss of such a claim in a crash of the server would only mean that the
-- message is free, so the disk is not waited for; the subquery that says so is run once, and first.
UPDATE {schema}.messages
SET holder = %(holder)s, ready_at = now() + %(lease)s * interval '1 second',
    deliveries = deliveries + 1
WHERE ctid = ANY (
    ARRAY(
        SELECT ctid FROM {schema}.messages
        WHERE lane = %(lane)s AND tenant = %(tenant)s AND state = 0
            AND ready_at >= to_timestamp(%(since)s) AND ready_at <= now()
        ORDER BY ready_at, id
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
)
    AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL
RETURNING date_part('epoch', due_at), id, order_key, job_id, deliveries, headers, body
