DELETE FROM {schema}.messages
USING unnest(%(job_ids)s::text[], %(epochs)s::text[]) AS named (job_id, epoch)
WHERE messages.state = 2
    AND messages.job_id = named.job_id AND messages.epoch = named.epoch
    AND messages.lane IN (
        SELECT lanes.id FROM {schema}.lanes JOIN {schema}.queues ON queues.id = lanes.queue
        WHERE queues.app = %(app)s AND queues.name = %(queue)s
    )
RETURNING messages.id
