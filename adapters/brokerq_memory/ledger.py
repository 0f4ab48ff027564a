"""What a memory store keeps for one app: plain data, guarded by the lock of its state."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from heapq import heappush

from brokerq.catalogue import Letter, LetterState
from brokerq.duration import ZERO
from brokerq.records import KeyRecord, Now, Record, State, key_after, key_is_free
from brokerq.store import Failure, JobView, NewJob, Transition
from brokerq_memory.outbox import Outbox

_LONGEST_HISTORY = 50


# There are several of each for every job that is remembered. The garbage collector need not look
# into a plain tuple of plain values again and again, as it would into an object.
Step = tuple[str, datetime, int, str | None]
"""A transition: state, instant, attempts, note."""
Due = tuple[datetime, int, str, int]
"""An item of a heap: instant, a number that makes the order total, job id, epoch."""


@dataclass(slots=True, eq=False)
class Entry:
    """A job: its record, and what is shown of it.

    Attributes:
        job: None once past its retention: from then on only the rules see the record.
        until: How long an ended record is kept against redeliveries; None: nobody said.
        was_due_at: When the job was due as it ended: its message comes up then.
    """

    record: Record
    job: NewJob | None
    history: list[Step] = field(default_factory=list[Step])
    result: bytes | None = None
    result_until: datetime | None = None
    failure: Failure | None = None
    note: str | None = None
    log: tuple[str, ...] = ()
    worker: str | None = None
    ended_at: datetime | None = None
    until: datetime | None = None
    was_due_at: datetime | None = None

    def move(self, record: Record, now: Now, note: str | None = None) -> None:
        """Write a record that is a step in the job's life."""
        self.record = record
        history = self.history
        history.append((str(record.state), now.wall, record.attempts, note))
        if len(history) > _LONGEST_HISTORY:
            del history[_LONGEST_HISTORY // 2]

    def forget(self) -> None:
        """Keep no more than the rules need."""
        self.job = self.result = self.failure = self.note = None
        self.history, self.log = [], ()


@dataclass(slots=True, eq=False)
class Filed:
    """A dead letter; `lease_until` is that of the redrive under way."""

    letter: Letter
    lease_until: float = 0.0


class Ledger:
    """The records, keys, dead letters, pauses and outbox of one app.

    Attributes:
        fence: The last one given; it only grows.
        letters: By job id, then by epoch.
        redriving: The letters, by job id, whose redrive was begun and not ended.
        paused: Who paused each queue.
        ended: Heap of the ended jobs that are shown, by when they ended, except those whose dead
            letter may still be redriven.
        hidden: Heap of the ended jobs that only the rules see, by when they may go.
        results: Heap of results, by when they may go.
        deaths: Heap of dead letters, by when they came.
        reservations: Heap of jobs that were reserved, by when they were first to run.
    """

    def __init__(self) -> None:
        self.fence = 0
        self.entries: dict[str, Entry] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.letters: dict[str, dict[int, Filed]] = {}
        self.redriving: dict[str, Filed] = {}
        self.paused: dict[str, str] = {}
        self.outbox = Outbox()
        self.ended: list[Due] = []
        self.hidden: list[Due] = []
        self.results: list[Due] = []
        self.deaths: list[Due] = []
        self.reservations: list[Due] = []
        self._number = 0

    def push(self, heap: list[Due], at: datetime, job_id: str, epoch: int = 0) -> None:
        """Put a job, or its dead letter of that epoch, on one of the heaps."""
        self._number += 1
        heappush(heap, (at, self._number, job_id, epoch))

    def record(self, job_id: str) -> Record | None:
        entry = self.entries.get(job_id)
        return None if entry is None else entry.record

    def add(self, record: Record, job: NewJob, now: Now) -> Entry:
        """Write the first record of a job; it takes its key unless another job holds that."""
        entry = Entry(record, job)
        entry.move(record, now)
        self.entries[record.id] = entry
        self.take_key(record, job.head.fingerprint, now)
        return entry

    def take_key(self, record: Record, fingerprint: str | None, now: Now) -> None:
        key = record.key
        if key is not None and key_is_free(self.keys.get(key), for_job=record.id, now=now):
            self.keys[key] = KeyRecord(key=key, job_id=record.id, fingerprint=fingerprint)

    def holding(self, record: Record) -> KeyRecord | None:
        """Return the key's record, if it is this job that holds the key."""
        holder = None if record.key is None else self.keys.get(record.key)
        return holder if holder is not None and holder.job_id == record.id else None

    def drop_key(self, record: Record) -> None:
        holder = self.holding(record)
        if holder is not None:
            del self.keys[holder.key]

    def end(self, entry: Entry, before: Record, now: Now, window: timedelta | None = None) -> None:
        """Note the end that the entry's record says; `before` is what it was until then."""
        record = entry.record
        entry.ended_at = now.wall
        entry.was_due_at = before.due_at
        entry.until = None if window is None else now.wall + window
        holder = None if record.key is None else self.holding(record)
        if holder is not None:
            after = key_after(record, holder, window=window or ZERO, now=now)
            if after is None:
                del self.keys[holder.key]
            else:
                self.keys[holder.key] = after
        newest = self.newest(record.id) if record.id in self.letters else None
        if newest is None or newest.letter.state != LetterState.OPEN:
            self.push(self.ended, now.wall, record.id)

    def newest(self, job_id: str) -> Filed | None:
        """Return the newest dead letter of the job."""
        filed = self.letters.get(job_id)
        return filed[max(filed)] if filed else None

    def shown(self, job_id: str) -> Entry | None:
        """Return the job unless it is past its retention."""
        entry = self.entries.get(job_id)
        return entry if entry is not None and entry.job is not None else None


def view(entry: Entry, job: NewJob, now: datetime, *, whole: bool) -> JobView:
    """Return what is shown of a job; `whole`: message and log, too."""
    record, head = entry.record, job.head
    has_result = entry.result_until is not None and now < entry.result_until
    waits = record.due_at is not None and now < record.due_at
    return JobView(
        id=record.id,
        job=head.job,
        queue=job.queue,
        level=job.level,
        state=record.state,
        epoch=record.epoch,
        attempts=record.attempts,
        crashes=record.crashes,
        redrives=record.redrives,
        first_at=record.first_at,
        due_at=record.due_at if waits else None,
        expires_at=record.expires_at,
        ended_at=entry.ended_at,
        key=head.key,
        tags=head.tags,
        correlation=head.correlation,
        cause=head.cause,
        worker=entry.worker,
        cancelling=record.cancelling,
        history=tuple(
            Transition(state=State(state), at=at, attempt=attempt, note=note)
            for state, at, attempt, note in entry.history
        ),
        message=job.message if whole else None,
        result=entry.result if has_result else None,
        failure=entry.failure,
        note=entry.note,
        log=entry.log if whole else (),
    )
