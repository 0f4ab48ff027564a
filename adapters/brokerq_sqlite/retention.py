"""What the store forgets, and when; one call is one short transaction."""

from __future__ import annotations

from brokerq.records import BURIED
from brokerq.store import Retention
from brokerq_sqlite.queries import load
from brokerq_sqlite.wire import span, texts
from brokerq_sqlite.writer import Transaction

_CLEAR_RESULTS = load("clear_results")
_REMOVE_OLD_LETTERS = load("remove_old_letters")
_COUNT_ENDED = load("count_ended")
_FIND_ENDED = load("find_ended")
_HIDE_JOBS = load("hide_jobs")
_REMOVE_PAYLOADS = load("remove_payloads")
_REMOVE_HIDDEN_JOBS = load("remove_hidden_jobs")
_REMOVE_KEY_OF_JOB = load("remove_key_of_job")
_CONFIRM_REDRIVES = load("confirm_redrives")
_REMOVE_ORPHANS = load("remove_orphans")
_REMOVE_PAYLOAD = load("remove_payload")


def prune(
    transaction: Transaction, app: int, retention: Retention, *, limit: int, now: int, mono: float
) -> int:
    """Remove up to `limit` things that are past their time; return how many."""
    db = transaction.db
    removed = db.execute(_CLEAR_RESULTS, {"app": app, "now": now, "limit": limit}).rowcount
    removed += _prune_letters(transaction, app, retention, limit - removed, now)
    removed += _prune_shown(transaction, app, retention, limit - removed, now)
    removed += _prune_hidden(transaction, app, limit - removed, now)
    oldest = now - span(retention.dead)
    removed += _prune_orphans(transaction, app, limit - removed, oldest=oldest, mono=mono)
    return removed


def _prune_letters(
    transaction: Transaction, app: int, retention: Retention, limit: int, now: int
) -> int:
    oldest = now - span(retention.dead)
    rows = transaction.db.execute(_REMOVE_OLD_LETTERS, (app, oldest, limit)).fetchall()
    _hide(transaction, app, [job_id for job_id, state in rows if state == "open"], retention)
    return len(rows)


def _prune_shown(
    transaction: Transaction, app: int, retention: Retention, limit: int, now: int
) -> int:
    db = transaction.db
    (ended,) = db.execute(_COUNT_ENDED, (app,)).fetchone()
    too_many = ended - retention.finished_count
    oldest = now - span(retention.finished)
    rows = db.execute(_FIND_ENDED, (app, limit)).fetchall()
    ids = [
        job_id
        for position, (job_id, ended_at) in enumerate(rows)
        if position < too_many or ended_at <= oldest
    ]
    return _hide(transaction, app, ids, retention)


def _hide(transaction: Transaction, app: int, ids: list[str], retention: Retention) -> int:
    if not ids:
        return 0
    values = {"app": app, "ids": texts(ids)}
    unsaid = {"unsaid": span(retention.dead)}
    hidden = transaction.db.execute(_HIDE_JOBS, values | unsaid).rowcount
    transaction.db.execute(_REMOVE_PAYLOADS, values)
    return hidden


def _prune_hidden(transaction: Transaction, app: int, limit: int, now: int) -> int:
    db = transaction.db
    values = {"app": app, "now": now, "limit": limit}
    rows = db.execute(_REMOVE_HIDDEN_JOBS, values).fetchall()
    for job_id, state, key in rows:
        if state not in BURIED:
            db.execute(_CONFIRM_REDRIVES, (app, job_id))  # it ended, so its copy had come
        if key is not None:
            db.execute(_REMOVE_KEY_OF_JOB, (app, key, job_id))
    return len(rows)


def _prune_orphans(
    transaction: Transaction, app: int, limit: int, *, oldest: int, mono: float
) -> int:
    db = transaction.db
    values = {"app": app, "oldest": oldest, "mono": mono, "limit": limit}
    rows = db.execute(_REMOVE_ORPHANS, values).fetchall()
    for job_id, key in rows:
        db.execute(_REMOVE_PAYLOAD, (app, job_id))
        db.execute(_REMOVE_KEY_OF_JOB, (app, key, job_id))
    return len(rows)
