"""What one transaction sees and changes of the records: read at once, asked, written at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from brokerq.duration import ZERO
from brokerq.message import Message
from brokerq.records import ENDED, KeyRecord, Now, Record, State, key_after, key_is_free
from brokerq.sql.history import step, step_note, trim
from brokerq.store import Finish, NewJob
from brokerq_sqlite.queries import load
from brokerq_sqlite.rows import (
    STATE_TEXTS,
    RecordRow,
    Row,
    published_row,
    read_record,
    rules_row,
    whole_row,
)
from brokerq_sqlite.wire import (
    headers_text,
    read_instant,
    span,
    texts,
    to_micros,
    write_instant,
)
from brokerq_sqlite.writer import Transaction

_FIND_RECORDS = load("find_records")
_FIND_KEYS = load("find_keys")
_TAKE_FENCE = load("take_fence")
_ADD_JOB = load("add_job")
_ADD_PUBLISHED_JOB = load("add_published_job")
_ADD_PAYLOAD = load("add_payload")
_WRITE_RECORD = load("write_record")
_TAKE_JOB = load("take_job")
_TAKE_JOBS = load("take_jobs")
_MOVE_JOB = load("move_job")
_SUCCEED_JOBS = load("succeed_jobs")
_REDRIVE_JOB = load("redrive_job")
_RENEW_LEASE = load("renew_lease")
_PUT_KEY = load("put_key")
_REMOVE_KEY = load("remove_key")

_ADDS = frozenset({_ADD_JOB, _ADD_PUBLISHED_JOB})
_PLAIN_RESULTS = (None, b"null")
"""Many jobs have these; they are written together."""


# What is the same for many jobs of a batch, which are then written together.
_Taken = tuple[int, str | None, float, datetime | None, int]
"""Fence, owner, end of the lease, instant if it is early, attempts."""
_Succeeded = tuple[int, int, bytes | None, timedelta, timedelta | None]
"""Attempts, crashes, result and for how long it is kept, window."""


class Ledger:
    """The records and keys that one call is about, as the call has left them so far.

    Attributes:
        records: Of the ids that were loaded; those that are not there are not known.
        keys: Of the keys that were loaded.
    """

    def __init__(self, transaction: Transaction, app: int, now: Now) -> None:
        self.now = now
        self.records: dict[str, Record] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.app = app
        self.transaction = transaction
        self.db = transaction.db
        self.micros = to_micros(now.wall)
        self._loaded: set[str] = set()
        self._long: dict[str, str] = {}
        self._rows: defaultdict[str, list[Row]] = defaultdict(list)
        self._claimed: list[Record] = []
        self._taken: defaultdict[_Taken, list[str]] = defaultdict(list)
        self._succeeded: defaultdict[_Succeeded, list[str]] = defaultdict(list)
        self._changed_keys: set[str] = set()

    def load(self, ids: Collection[str]) -> None:
        """Read the records of these jobs, once."""
        wanted = [job_id for job_id in ids if job_id not in self._loaded]
        if not wanted:
            return
        self._loaded.update(wanted)
        known = self.transaction.take_records(wanted)
        self.records.update(known)
        if len(known) < len(wanted):
            self._read([job_id for job_id in wanted if job_id not in known])

    def _read(self, ids: list[str]) -> None:
        rows: list[RecordRow] = self.db.execute(_FIND_RECORDS, (self.app, texts(ids))).fetchall()
        for row in rows:
            record = read_record(row)
            self.records[record.id] = record
            long = row[-1]
            if long is not None:
                self._long[record.id] = trim(long)

    def load_keys(self, keys: Iterable[str | None]) -> None:
        """Read who holds these keys."""
        wanted = [key for key in keys if key is not None and key not in self.keys]
        if not wanted:
            return
        for key, job_id, fingerprint, expires_at in self.db.execute(
            _FIND_KEYS, (self.app, texts(wanted))
        ).fetchall():
            self.keys[key] = KeyRecord(
                key=key, job_id=job_id, fingerprint=fingerprint, expires_at=read_instant(expires_at)
            )

    def take_fence(self) -> int:
        """Return a fence that is larger than any before; for each job it is used at most once."""
        (fence,) = self.db.execute(_TAKE_FENCE).fetchone()
        return int(fence)

    def add(
        self, record: Record, job: NewJob, *, headers: str | None = None, note: str | None = None
    ) -> None:
        """Write the first record of a job; it takes its key unless another job holds that."""
        self.records[record.id] = record
        if record.fence or record.owner or note:
            self._put(_ADD_JOB, whole_row(self.app, record, job, self.micros, note))
        else:
            self._put(_ADD_PUBLISHED_JOB, published_row(self.app, record, job, self.micros))
        self.add_payload(record.id, job.message, headers)
        if record.key is not None:
            self.take_key(record.id, record.key, job.head.fingerprint)

    def add_payload(self, job_id: str, message: Message, headers: str | None = None) -> None:
        """Keep what was published, unless it is there."""
        text = headers_text(message.headers) if headers is None else headers
        self._put(_ADD_PAYLOAD, (self.app, job_id, text, message.body))

    def take_key(self, job_id: str, key: str, fingerprint: str | None) -> None:
        """Let the job hold the key unless another job does; the key was loaded."""
        if key_is_free(self.keys.get(key), for_job=job_id, now=self.now):
            self.keys[key] = KeyRecord(key=key, job_id=job_id, fingerprint=fingerprint)
            self._changed_keys.add(key)

    def drop_key(self, record: Record) -> None:
        """Free the job's key if it holds it; the key was loaded."""
        key = record.key
        if key is not None and key in self.keys and self.keys[key].job_id == record.id:
            del self.keys[key]
            self._changed_keys.add(key)

    def write(self, record: Record) -> None:
        """Write a change that is no step in the job's life."""
        self.records[record.id] = record
        self._put(_WRITE_RECORD, (*rules_row(record), self.app, record.id))

    def renew(self, record: Record) -> None:
        """Write the end of the lease."""
        self.records[record.id] = record
        self._put(_RENEW_LEASE, (record.lease_until, self.app, record.id))

    def take(self, record: Record, before: Record) -> None:
        """Write that a worker has claimed the job; `before` is what it was."""
        self.records[record.id] = record
        self._claimed.append(record)
        if record.id not in self._long and _is_as_counted(record, before):
            taken = (
                record.fence,
                record.owner,
                record.lease_until,
                record.due_at,
                record.attempts,
            )
            self._taken[taken].append(record.id)
            return
        self._put(
            _TAKE_JOB,
            (
                STATE_TEXTS[record.state],
                record.epoch,
                record.claimed,
                record.attempts,
                record.crashes,
                record.fence,
                record.owner,
                record.owner,
                record.lease_until,
                write_instant(record.due_at),
                self._long.get(record.id),
                step(record.state, self.micros, record.attempts, None),
                self.app,
                record.id,
            ),
        )

    def move(self, record: Record, before: Record, verdict: Finish | None = None) -> None:
        """Write a step in the job's life, an end of it too; `before` is what it was."""
        self.records[record.id] = record
        ended = record.state in ENDED
        window = None if verdict is None else verdict.window
        if (
            verdict is not None
            and _is_plain_success(record, verdict)
            and record.id not in self._long
        ):
            how = (record.attempts, record.crashes, verdict.result, verdict.result_ttl, window)
            self._succeeded[how].append(record.id)
        else:
            self._put(
                _MOVE_JOB,
                (
                    STATE_TEXTS[record.state],
                    record.epoch,
                    record.claimed,
                    record.attempts,
                    record.crashes,
                    record.owner,
                    record.lease_until,
                    write_instant(record.due_at),
                    record.cancelling,
                    self._long.get(record.id),
                    step(record.state, self.micros, record.attempts, step_note(verdict)),
                    *self._outcome(record, verdict),
                    self.micros if ended else None,
                    write_instant(before.due_at) if ended else None,
                    self._after(window) if ended else None,
                    self.app,
                    record.id,
                ),
            )
        if ended and record.key is not None:
            self._end_key(record, window or ZERO)

    def _outcome(self, record: Record, verdict: Finish | None) -> Row:
        """Return failure, note, result, and until when the result is kept."""
        if verdict is None:
            return None, None, None, None
        failure = verdict.failure
        told = None if failure is None else texts([failure.type, failure.message])
        if verdict.result is None or record.state != State.SUCCEEDED:
            return told, verdict.note, None, None
        return told, verdict.note, verdict.result, self._after(verdict.result_ttl)

    def _after(self, duration: timedelta | None) -> int | None:
        return None if duration is None else self.micros + span(duration)

    def _end_key(self, record: Record, window: timedelta) -> None:
        holder = self.keys.get(record.key or "")
        if holder is None or holder.job_id != record.id:
            return
        after = key_after(record, holder, window=window, now=self.now)
        if after is None:
            del self.keys[holder.key]
        else:
            self.keys[holder.key] = after
        self._changed_keys.add(holder.key)

    def redrive(self, record: Record) -> None:
        """Write that a dead job is put back."""
        self.records[record.id] = record
        self._put(
            _REDRIVE_JOB,
            (
                STATE_TEXTS[record.state],
                to_micros(record.first_at),
                record.epoch,
                record.claimed,
                record.attempts,
                record.crashes,
                write_instant(record.expires_at),
                record.key,
                record.redrives,
                record.cancelling,
                self._long.get(record.id),
                step(record.state, self.micros, record.attempts, None),
                self.app,
                record.id,
            ),
        )

    def _put(self, statement: str, row: Row) -> None:
        self._rows[statement].append(row)

    def flush(self) -> None:
        """Write everything, one statement for each kind of change; first what is new."""
        for statement in sorted(self._rows, key=_ADDS.__contains__, reverse=True):
            self.db.executemany(statement, self._rows[statement])
        self._rows.clear()
        self._flush_alike()
        for key in self._changed_keys:
            holder = self.keys.get(key)
            if holder is None:
                self.db.execute(_REMOVE_KEY, (self.app, key))
            else:
                until = write_instant(holder.expires_at)
                row = (self.app, key, holder.job_id, holder.fingerprint, until)
                self.db.execute(_PUT_KEY, row)
        self._changed_keys.clear()

    def _flush_alike(self) -> None:
        """Write with one statement each what is the same for many jobs."""
        if self._claimed:
            self.transaction.claim_records(self._claimed)
            self._claimed.clear()
        for (fence, owner, lease_until, due_at, attempts), ids in self._taken.items():
            line = step(State.RUNNING, self.micros, attempts, None)
            due = write_instant(due_at)
            how: Row = (fence, owner, owner, lease_until, due, line)
            self.db.execute(_TAKE_JOBS, (*how, self.app, texts(ids)))
        self._taken.clear()
        for (attempts, crashes, result, ttl, window), ids in self._succeeded.items():
            line = step(State.SUCCEEDED, self.micros, attempts, None)
            result_until = None if result is None else self._after(ttl)
            how = (attempts, crashes, line, result, result_until, self.micros, self._after(window))
            self.db.execute(_SUCCEED_JOBS, (*how, self.app, texts(ids)))
        self._succeeded.clear()


def _is_as_counted(record: Record, before: Record) -> bool:
    return (
        record.epoch == before.epoch
        and record.attempts == before.attempts
        and record.crashes == before.crashes
    )


def _is_plain_success(record: Record, verdict: Finish) -> bool:
    return (
        record.state == State.SUCCEEDED
        and verdict.result in _PLAIN_RESULTS
        and verdict.failure is None
        and verdict.note is None
    )
