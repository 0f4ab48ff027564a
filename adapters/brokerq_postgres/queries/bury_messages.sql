UPDATE {schema}.messages
SET state = 2, holder = NULL, order_key = NULL, ready_at = now(), due_at = now(),
    job_id = coalesce(dead.job_id, messages.job_id), epoch = dead.epoch,
    headers = dead.headers, body = dead.body
FROM unnest(
    %(ids)s::bigint[], %(job_ids)s::text[], %(epochs)s::text[], %(headers)s::text[],
    %(bodies)b::bytea[]
) AS dead (id, job_id, epoch, headers, body)
WHERE messages.id = dead.id AND messages.holder = %(holder)s
RETURNING messages.id
