-- Instants are microseconds since 1970 in UTC; `lease_until` is seconds on the monotonic clock of
-- the boot that `about` names: when the machine boots, every lease has lapsed.

CREATE TABLE about (
    name TEXT NOT NULL PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

INSERT INTO about (name, value) VALUES ('boot', ''), ('fence', 0), ('needs', '0.1.0');

CREATE TABLE apps (
    id INTEGER PRIMARY KEY,
    prefix TEXT NOT NULL UNIQUE
);

CREATE TABLE queues (
    id INTEGER PRIMARY KEY,
    app INTEGER NOT NULL,
    name TEXT NOT NULL,
    ordered INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    UNIQUE (app, name)
);

CREATE TABLE lanes (
    id INTEGER PRIMARY KEY,
    queue INTEGER NOT NULL,
    level TEXT NOT NULL,
    position INTEGER NOT NULL,
    UNIQUE (queue, level)
);

-- state: 0 ready, or delayed until due_at; 1 leased to `holder`; 2 behind another message with its
-- order_key; 3 dead since due_at. The indexes are partial so that each holds only what it is for.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    lane INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL
        DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)),
    deliveries INTEGER NOT NULL DEFAULT 0,
    holder INTEGER,
    lease_until REAL,
    order_key TEXT,
    job_id TEXT,
    headers TEXT NOT NULL DEFAULT '{}',
    body BLOB NOT NULL
);

CREATE INDEX messages_ready ON messages (lane, due_at) WHERE state = 0;
CREATE INDEX messages_leased ON messages (lane, lease_until) WHERE state = 1;
CREATE INDEX messages_blocked ON messages (lane, due_at) WHERE state = 2;
CREATE INDEX messages_dead ON messages (lane, due_at) WHERE state = 3;
CREATE INDEX messages_dead_by_job ON messages (job_id) WHERE state = 3;
CREATE INDEX messages_ordered ON messages (order_key) WHERE order_key IS NOT NULL;

-- What changes with every step of a job is apart from its message, which does not: SQLite writes
-- whole rows. shown: 0 past its retention, when only the rules see it; buried: 1 while its dead
-- letter is open; a line of `history` is a state, an instant, a count of attempts, and a note.
CREATE TABLE jobs (
    app INTEGER NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    first_at INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    claimed INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    owner TEXT,
    lease_until REAL NOT NULL,
    due_at INTEGER,
    expires_at INTEGER,
    key TEXT,
    redrives INTEGER NOT NULL,
    cancelling INTEGER NOT NULL,
    job TEXT NOT NULL,
    queue TEXT NOT NULL,
    level TEXT NOT NULL,
    user_key TEXT,
    tags TEXT,
    correlation TEXT,
    cause TEXT,
    worker TEXT,
    history TEXT NOT NULL,
    ended_at INTEGER,
    was_due_at INTEGER,
    keep_until INTEGER,
    shown INTEGER NOT NULL DEFAULT 1,
    buried INTEGER NOT NULL DEFAULT 0,
    failure TEXT,
    note TEXT,
    result BLOB,
    result_until INTEGER,
    log TEXT,
    PRIMARY KEY (app, id)
) WITHOUT ROWID;

CREATE INDEX jobs_by_state ON jobs (app, state, id, queue) WHERE shown = 1;
CREATE INDEX jobs_by_key ON jobs (app, user_key) WHERE user_key IS NOT NULL;
CREATE INDEX jobs_by_correlation ON jobs (app, correlation) WHERE correlation IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (app, ended_at)
    WHERE shown = 1 AND buried = 0 AND ended_at IS NOT NULL;
CREATE INDEX jobs_hidden ON jobs (app, keep_until) WHERE shown = 0;
CREATE INDEX jobs_with_result ON jobs (app, result_until) WHERE result_until IS NOT NULL;

CREATE TABLE payloads (
    app INTEGER NOT NULL,
    id TEXT NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (app, id)
) WITHOUT ROWID;

CREATE TABLE keys (
    app INTEGER NOT NULL,
    key TEXT NOT NULL,
    job_id TEXT NOT NULL,
    fingerprint TEXT,
    expires_at INTEGER,
    PRIMARY KEY (app, key)
) WITHOUT ROWID;

CREATE TABLE letters (
    app INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    state TEXT NOT NULL,
    job TEXT NOT NULL,
    queue TEXT NOT NULL,
    level TEXT NOT NULL,
    reason TEXT NOT NULL,
    error_type TEXT,
    error_message TEXT,
    grouped TEXT NOT NULL,
    at INTEGER NOT NULL,
    redrives INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    note TEXT,
    closed_by TEXT,
    lease_until REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (app, job_id, epoch)
);

CREATE INDEX letters_by_state ON letters (app, state, job_id);
CREATE INDEX letters_by_age ON letters (app, at);

CREATE TABLE pauses (
    app INTEGER NOT NULL,
    queue TEXT NOT NULL,
    paused_by TEXT NOT NULL,
    PRIMARY KEY (app, queue)
) WITHOUT ROWID;
