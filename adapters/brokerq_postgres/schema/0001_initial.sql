-- Leases are by the database's clock. `lease_until` is in seconds since 1970. Text is escaped as
-- brokerq_postgres.wire says; headers, tags, failure, history and log are JSON, or lines with JSON.

CREATE SEQUENCE {schema}.fences;

CREATE TABLE {schema}.apps (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    prefix text COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE {schema}.queues (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    ordered boolean NOT NULL,
    lease double precision NOT NULL,
    UNIQUE (app, name)
);

CREATE TABLE {schema}.lanes (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue integer NOT NULL,
    level text COLLATE "C" NOT NULL,
    position integer NOT NULL,
    UNIQUE (queue, level)
);

-- state: 0 to be had from `ready_at` on, which is the end of the lease while somebody holds it;
-- 1 behind another message with its order_key; 2 dead since ready_at. due_at: its place in the lane
-- when it is handed back. tenant: '' where nobody named one. epoch: of a
-- dead letter.
CREATE TABLE {schema}.messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane integer NOT NULL,
    state smallint NOT NULL DEFAULT 0,
    ready_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL DEFAULT now(),
    holder bigint,
    deliveries integer NOT NULL DEFAULT 0,
    tenant text COLLATE "C" NOT NULL DEFAULT '',
    order_key text COLLATE "C",
    job_id text COLLATE "C",
    epoch text,
    headers text NOT NULL DEFAULT '{}',
    body bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1,
    autovacuum_analyze_threshold = 5000
);

CREATE INDEX messages_ready ON {schema}.messages (lane, tenant, ready_at, id) WHERE state = 0;
CREATE INDEX messages_blocked ON {schema}.messages (lane, ready_at) WHERE state = 1;
CREATE INDEX messages_dead ON {schema}.messages (lane, ready_at, id) WHERE state = 2;
CREATE INDEX messages_dead_by_job ON {schema}.messages USING hash (job_id) WHERE state = 2;
CREATE INDEX messages_ordered ON {schema}.messages (order_key, id) WHERE order_key IS NOT NULL;

-- No index has a column that changes while a job is worked on, so that its row stays on its page.
-- Primary keys begin with the id: a plan made before there are statistics looks for that, not for
-- all rows of the app.
-- ended_as: its state, once it has ended; shown: false past its retention, when only the rules see
-- it; buried: while its dead letter is open; a line of `history` is a state, an instant, a count of attempts, and a note.
CREATE TABLE {schema}.jobs (
    app integer NOT NULL,
    id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    first_at timestamptz NOT NULL,
    epoch integer NOT NULL,
    claimed boolean NOT NULL,
    attempts integer NOT NULL,
    crashes integer NOT NULL,
    fence bigint NOT NULL,
    owner text COLLATE "C",
    lease_until double precision NOT NULL,
    due_at timestamptz,
    expires_at timestamptz,
    key text COLLATE "C",
    redrives integer NOT NULL,
    cancelling boolean NOT NULL,
    job text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    level text COLLATE "C" NOT NULL,
    user_key text COLLATE "C",
    tags text,
    correlation text COLLATE "C",
    cause text,
    worker text,
    history text NOT NULL,
    ended_at timestamptz,
    ended_as text COLLATE "C",
    was_due_at timestamptz,
    keep_until timestamptz,
    shown boolean NOT NULL DEFAULT true,
    buried boolean NOT NULL DEFAULT false,
    failure text,
    note text,
    result bytea,
    result_until timestamptz,
    log text,
    PRIMARY KEY (id, app)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1,
    autovacuum_analyze_threshold = 5000
);

CREATE INDEX jobs_live ON {schema}.jobs (app, id) WHERE ended_at IS NULL;
CREATE INDEX jobs_without_success ON {schema}.jobs (app, ended_as, id)
    WHERE ended_as <> 'succeeded' AND shown;
CREATE INDEX jobs_ended ON {schema}.jobs (app, ended_at)
    WHERE ended_at IS NOT NULL AND shown AND NOT buried;
CREATE INDEX jobs_hidden ON {schema}.jobs (app, keep_until) WHERE NOT shown;
CREATE INDEX jobs_by_key ON {schema}.jobs USING hash (user_key) WHERE user_key IS NOT NULL;
CREATE INDEX jobs_by_correlation ON {schema}.jobs USING hash (correlation)
    WHERE correlation IS NOT NULL;
CREATE INDEX jobs_with_result ON {schema}.jobs (app, result_until) WHERE result_until IS NOT NULL;

CREATE TABLE {schema}.payloads (
    app integer NOT NULL,
    id text COLLATE "C" NOT NULL,
    headers text NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (id, app)
);

CREATE TABLE {schema}.keys (
    app integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    fingerprint text,
    expires_at timestamptz,
    PRIMARY KEY (key, app)
);

CREATE TABLE {schema}.letters (
    app integer NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    epoch integer NOT NULL,
    state text COLLATE "C" NOT NULL,
    job text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    level text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    error_type text,
    error_message text,
    grouped text NOT NULL,
    at timestamptz NOT NULL,
    redrives integer NOT NULL,
    headers text NOT NULL,
    body bytea NOT NULL,
    note text,
    closed_by text,
    lease_until double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (app, job_id, epoch)
);

CREATE INDEX letters_by_state ON {schema}.letters (app, state, job_id);
CREATE INDEX letters_by_age ON {schema}.letters (app, at);

CREATE TABLE {schema}.pauses (
    app integer NOT NULL,
    queue text COLLATE "C" NOT NULL,
    paused_by text NOT NULL,
    PRIMARY KEY (app, queue)
);

-- Messages that a broker elsewhere does not have yet. state: 0 to be taken when it is due; 1 put
-- back, not to be taken before ready_at; 2 behind another message with its order_key. Whoever
-- publishes one holds it until `lease_until`.
CREATE TABLE {schema}.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    app integer NOT NULL,
    job_id text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    level text COLLATE "C" NOT NULL,
    state smallint NOT NULL,
    due_at timestamptz NOT NULL,
    ready_at timestamptz NOT NULL,
    holder text COLLATE "C",
    lease_until double precision NOT NULL DEFAULT 0,
    order_key text COLLATE "C",
    tenant text COLLATE "C",
    headers text NOT NULL,
    body bytea NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX outbox_ready ON {schema}.outbox (app, state, ready_at, id);
CREATE INDEX outbox_by_job ON {schema}.outbox USING hash (job_id);
CREATE INDEX outbox_ordered ON {schema}.outbox (hashtextextended(order_key, 0), id)
    WHERE order_key IS NOT NULL;
