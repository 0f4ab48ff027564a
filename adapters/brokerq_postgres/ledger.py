"""What one transaction sees and changes of the records: read at once, asked, written at once.

Jobs are locked before keys, each in order, so that two transactions seldom wait for each other.
What was found absent is inserted: if somebody else was faster the transaction begins anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta

from brokerq.duration import ZERO
from brokerq.message import Message
from brokerq.records import ENDED, KeyRecord, Now, Record, State, key_after, key_is_free, scoped_key
from brokerq.sql.history import step, step_note, trim
from brokerq.store import Finish, NewJob
from brokerq_postgres import columns
from brokerq_postgres.errors import LostRaceError
from brokerq_postgres.rows import STATE_TEXTS, Row, new_row, read_record, rules_row
from brokerq_postgres.transaction import Transaction
from brokerq_postgres.wire import (
    bounded,
    bounded_or_null,
    from_micros,
    headers_text,
    texts,
    unescape,
    unescape_or_null,
    write_json,
)


class Ledger:
    """The records and keys that one call is about, as the call has left them so far.

    Attributes:
        records: Of the ids that were loaded; those that are not there are not known.
        keys: Of the keys that were loaded, as they are kept.
        fences: Numbers larger than any before, as many as were asked for.
    """

    def __init__(self, transaction: Transaction) -> None:
        self.records: dict[str, Record] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.fences: list[int] = []
        self.transaction = transaction
        self.app = transaction.app
        self.micros = 0
        self._now: Now | None = None
        self._loaded: set[str] = set()
        self._long: dict[str, str] = {}
        self._batches: list[tuple[str, list[Row]]] = []
        self._open: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self._payloads: list[tuple[str, str, bytes]] = []
        self._known_keys: set[str] = set()
        self._changed_keys: set[str] = set()

    @property
    def now(self) -> Now:
        """The database's time, as of the last load."""
        assert self._now is not None  # noqa: S101 - every call begins with a load
        return self._now

    async def load(self, ids: Collection[str], *, fences: int = 0) -> None:
        """Lock and read the records of these jobs, each once; and look at the clock."""
        wanted = [job_id for job_id in ids if job_id not in self._loaded]
        self._loaded.update(wanted)
        found = None
        if wanted:
            values = {"app": self.app, "ids": texts([bounded(job_id) for job_id in wanted])}
            found = await self.transaction.send("find_records", values)
        ((micros, numbers),) = await self.transaction.fetch("take_time", {"fences": fences})
        self.micros = micros
        self._now = Now(wall=from_micros(micros), lease=micros / 1e6)
        self.fences = numbers
        if found is None:
            return
        by_place = {bounded(job_id): job_id for job_id in wanted}
        for row in await found.fetchall():
            record = read_record(row)
            job_id = by_place[record.id]
            self.records[job_id] = record._replace(id=job_id)
            if row[-1] is not None:
                self._long[job_id] = trim(row[-1])

    async def load_keys(self, keys: Iterable[str | None]) -> None:
        """Lock and read who holds these keys."""
        bound = {bounded(key) for key in keys if key is not None}
        wanted = sorted(bound - self.keys.keys())
        if not wanted:
            return
        values = {"app": self.app, "keys": texts(wanted)}
        for place, job_id, fingerprint, expires_at in await self.transaction.fetch(
            "find_keys", values
        ):
            key = unescape(place)
            self._known_keys.add(key)
            self.keys[key] = KeyRecord(
                key=key,
                job_id=unescape(job_id),
                fingerprint=unescape_or_null(fingerprint),
                expires_at=expires_at,
            )

    def holder(self, key: str | None) -> KeyRecord | None:
        """Return who holds a key that was loaded."""
        return None if key is None else self.keys.get(bounded(key))

    async def load_holders(self, jobs: Sequence[NewJob]) -> None:
        """Read the keys of the jobs, who holds them, and what is known of the jobs."""
        keys = [key for job in jobs if (key := scoped_key(job.head)) is not None]
        values = {"app": self.app, "keys": texts([bounded(key) for key in keys])}
        ids = {job.head.id for job in jobs}
        if keys:
            rows = await self.transaction.fetch("peek_at_keys", values)
            ids.update(unescape(job_id) for (job_id,) in rows)
        await self.load(ids)
        await self.load_keys(keys)
        if any(holder.job_id not in ids for holder in self.keys.values()):
            raise LostRaceError  # between the look and the lock it went to another job

    def add(self, record: Record, job: NewJob, *, note: str | None = None) -> None:
        """Write the first record of a job; it takes its key unless another job holds that."""
        self.records[record.id] = record
        row = new_row(record, job, self.micros, self.now.wall, note)
        self._put("add_jobs", record.id, row)
        self.add_payload(record.id, job.message)
        if record.key is not None:
            self.take_key(record.id, record.key, job.head.fingerprint)

    def add_payload(self, job_id: str, message: Message) -> None:
        """Keep what was published, unless it is there."""
        self._payloads.append((bounded(job_id), headers_text(message.headers), message.body))

    def take_key(self, job_id: str, key: str, fingerprint: str | None) -> None:
        """Let the job hold the key unless another job does; the key was loaded."""
        key = bounded(key)
        if key_is_free(self.keys.get(key), for_job=job_id, now=self.now):
            self.keys[key] = KeyRecord(key=key, job_id=job_id, fingerprint=fingerprint)
            self._changed_keys.add(key)

    def drop_key(self, record: Record) -> None:
        """Free the job's key if it holds it; the key was loaded."""
        holder = self.holder(record.key)
        if holder is not None and holder.job_id == record.id:
            del self.keys[holder.key]
            self._changed_keys.add(holder.key)

    def write(self, record: Record) -> None:
        """Write a change that is no step in the job's life."""
        self.records[record.id] = record
        self._put("write_records", record.id, rules_row(record))

    def renew(self, record: Record) -> None:
        """Write the end of the lease."""
        self.records[record.id] = record
        self._put("renew_leases", record.id, (bounded(record.id), record.lease_until))

    def take(self, record: Record) -> None:
        """Write that a worker has claimed the job."""
        self.records[record.id] = record
        row = (
            bounded(record.id),
            record.epoch,
            record.attempts,
            record.crashes,
            record.fence,
            record.owner,
            record.lease_until,
            record.due_at,
            self._long.get(record.id),
            step(record.state, self.micros, record.attempts, None),
        )
        self._put("take_jobs", record.id, row)

    def move(self, record: Record, before: Record, verdict: Finish | None = None) -> None:
        """Write a step in the job's life, an end of it too; `before` is what it was."""
        self.records[record.id] = record
        ended = record.state in ENDED
        window = None if verdict is None else verdict.window
        wall = self.now.wall
        row = (
            bounded(record.id),
            STATE_TEXTS[record.state],
            record.epoch,
            record.claimed,
            record.attempts,
            record.crashes,
            record.owner,
            record.lease_until,
            record.due_at,
            record.cancelling,
            self._long.get(record.id),
            step(record.state, self.micros, record.attempts, step_note(verdict)),
            *self._outcome(record, verdict),
            wall if ended else None,
            before.due_at if ended else None,
            wall + window if ended and window is not None else None,
        )
        self._put("move_jobs", record.id, row)
        if ended and record.key is not None:
            self._end_key(record, window or ZERO)

    def _outcome(self, record: Record, verdict: Finish | None) -> Row:
        """Return failure, note, result, and until when the result is kept."""
        if verdict is None:
            return None, None, None, None
        failure = verdict.failure
        told = None if failure is None else write_json([failure.type, failure.message])
        if verdict.result is None or record.state != State.SUCCEEDED:
            return told, verdict.note, None, None
        return told, verdict.note, verdict.result, self.now.wall + verdict.result_ttl

    def _end_key(self, record: Record, window: timedelta) -> None:
        holder = self.holder(record.key)
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
        row = (
            bounded(record.id),
            STATE_TEXTS[record.state],
            record.first_at,
            record.epoch,
            record.claimed,
            record.attempts,
            record.crashes,
            record.expires_at,
            bounded_or_null(record.key),
            record.redrives,
            record.cancelling,
            self._long.get(record.id),
            step(record.state, self.micros, record.attempts, None),
        )
        self._put("redrive_jobs", record.id, row)

    def _put(self, name: str, job_id: str, row: Row) -> None:
        """Add the row to a statement that comes after all others about the same job."""
        after = self._written.get(job_id, -1)
        place = self._open.get(name, -1)
        if place <= after:
            place = self._open[name] = len(self._batches)
            self._batches.append((name, []))
        self._batches[place][1].append(row)
        self._written[job_id] = place

    async def flush(self) -> None:
        """Send everything, one statement for each kind of change, without waiting."""
        send, app = self.transaction.send, {"app": self.app}
        for name, rows in self._batches:
            rows.sort(key=_first)  # ids, for the order of the locks
            await send(name, {**app, **columns.values(name, rows)})
        self._batches.clear()
        self._open.clear()
        self._written.clear()
        if self._payloads:
            self._payloads.sort(key=_first)
            await send("add_payloads", {**app, **columns.payloads(self._payloads)})
            self._payloads.clear()
        if self._changed_keys:
            await self._flush_keys()

    async def _flush_keys(self) -> None:
        changed = sorted(self._changed_keys)
        self._changed_keys.clear()
        gone = [key for key in changed if key not in self.keys]
        held = [self.keys[key] for key in changed if key in self.keys]
        for name, holders in (
            ("add_keys", [holder for holder in held if holder.key not in self._known_keys]),
            ("change_keys", [holder for holder in held if holder.key in self._known_keys]),
        ):
            if holders:
                values = {"app": self.app, **columns.keys(holders)}
                await self.transaction.send(name, values)
        if gone:
            await self.transaction.send("remove_keys", {"app": self.app, "keys": texts(gone)})
        self._known_keys.update(holder.key for holder in held)
        self._known_keys.difference_update(key for key in changed if key not in self.keys)


def _first(row: Sequence[object]) -> str:
    return str(row[0])
