-- Messages that the broker does not have yet. state: 0 to be taken when it is due; 1 put back, not
-- to be taken before ready_at; 2 behind another message with its order_key. Whoever published one
-- holds it until `lease_until`.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app INTEGER NOT NULL,
    job_id TEXT NOT NULL,
    queue TEXT NOT NULL,
    level TEXT NOT NULL,
    state INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    ready_at INTEGER NOT NULL,
    holder TEXT,
    lease_until REAL NOT NULL DEFAULT 0,
    order_key TEXT,
    tenant TEXT,
    headers TEXT NOT NULL,
    body BLOB NOT NULL
);

CREATE INDEX outbox_ready ON outbox (app, state, ready_at);
CREATE INDEX outbox_due ON outbox (app, queue, due_at);
CREATE INDEX outbox_by_job ON outbox (app, job_id);
CREATE INDEX outbox_ordered ON outbox (app, queue, order_key) WHERE order_key IS NOT NULL;
