-- The file may be an app's own database too: no name here may be one that it would choose, and
-- `user_version` is the app's, so that the version is a row of brokerq_about from here on.
PRAGMA user_version = 0;

ALTER TABLE about RENAME TO brokerq_about;
ALTER TABLE apps RENAME TO brokerq_apps;
ALTER TABLE queues RENAME TO brokerq_queues;
ALTER TABLE lanes RENAME TO brokerq_lanes;
ALTER TABLE messages RENAME TO brokerq_messages;
ALTER TABLE jobs RENAME TO brokerq_jobs;
ALTER TABLE payloads RENAME TO brokerq_payloads;
ALTER TABLE keys RENAME TO brokerq_keys;
ALTER TABLE letters RENAME TO brokerq_letters;
ALTER TABLE pauses RENAME TO brokerq_pauses;
ALTER TABLE outbox RENAME TO brokerq_outbox;

DROP INDEX messages_ready;
CREATE INDEX brokerq_messages_ready ON brokerq_messages (lane, due_at) WHERE state = 0;
DROP INDEX messages_leased;
CREATE INDEX brokerq_messages_leased ON brokerq_messages (lane, lease_until) WHERE state = 1;
DROP INDEX messages_blocked;
CREATE INDEX brokerq_messages_blocked ON brokerq_messages (lane, due_at) WHERE state = 2;
DROP INDEX messages_dead;
CREATE INDEX brokerq_messages_dead ON brokerq_messages (lane, due_at) WHERE state = 3;
DROP INDEX messages_dead_by_job;
CREATE INDEX brokerq_messages_dead_by_job ON brokerq_messages (job_id) WHERE state = 3;
DROP INDEX messages_ordered;
CREATE INDEX brokerq_messages_ordered ON brokerq_messages (order_key) WHERE order_key IS NOT NULL;
DROP INDEX jobs_by_state;
CREATE INDEX brokerq_jobs_by_state ON brokerq_jobs (app, state, id, queue) WHERE shown = 1;
DROP INDEX jobs_by_key;
CREATE INDEX brokerq_jobs_by_key ON brokerq_jobs (app, user_key) WHERE user_key IS NOT NULL;
DROP INDEX jobs_by_correlation;
CREATE INDEX brokerq_jobs_by_correlation ON brokerq_jobs (app, correlation)
    WHERE correlation IS NOT NULL;
DROP INDEX jobs_ended;
CREATE INDEX brokerq_jobs_ended ON brokerq_jobs (app, ended_at)
    WHERE shown = 1 AND buried = 0 AND ended_at IS NOT NULL;
DROP INDEX jobs_hidden;
CREATE INDEX brokerq_jobs_hidden ON brokerq_jobs (app, keep_until) WHERE shown = 0;
DROP INDEX jobs_with_result;
CREATE INDEX brokerq_jobs_with_result ON brokerq_jobs (app, result_until)
    WHERE result_until IS NOT NULL AND result <> x'6e756c6c';
DROP INDEX letters_by_state;
CREATE INDEX brokerq_letters_by_state ON brokerq_letters (app, state, job_id);
DROP INDEX letters_by_age;
CREATE INDEX brokerq_letters_by_age ON brokerq_letters (app, at);
DROP INDEX outbox_ready;
CREATE INDEX brokerq_outbox_ready ON brokerq_outbox (app, state, ready_at);
DROP INDEX outbox_due;
CREATE INDEX brokerq_outbox_due ON brokerq_outbox (app, queue, due_at);
DROP INDEX outbox_by_job;
CREATE INDEX brokerq_outbox_by_job ON brokerq_outbox (app, job_id);
DROP INDEX outbox_ordered;
CREATE INDEX brokerq_outbox_ordered ON brokerq_outbox (app, queue, order_key)
    WHERE order_key IS NOT NULL;
