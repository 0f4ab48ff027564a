"""The one thread of a process that writes to the file: group commit.

What is queued while a transaction is under way goes into the next one together, so the disk is
waited for once for all of it; nothing is waited for when nothing is queued.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from brokerq.errors import BrokerqError, StorageError
from brokerq.records import Record
from brokerq_sqlite.calls import Call, CallThread, answer_all, fail_all
from brokerq_sqlite.errors import translate
from brokerq_sqlite.session import Options, Session

_LARGEST_GROUP = 64


class Transaction:
    """What a call may use while it is run.

    Attributes:
        touched: Lanes in which something was put, and the earliest instant, in microseconds, at
            which one of those messages is due.
        claimed: The records of the jobs that were claimed.
    """

    __slots__ = ("_checked", "_running", "claimed", "db", "touched")

    def __init__(self, session: Session) -> None:
        self.db = session.db
        self.touched: dict[int, int] = {}
        self.claimed: dict[str, Record] = {}
        self._running = session.running
        self._checked = False

    def take_records(self, ids: Sequence[str]) -> dict[str, Record]:
        """Return the records of jobs that this process claimed, if they surely are as they were.

        Whoever asks may change them: they are not known any more.
        """
        if not self.claimed and not self._running:
            return {}  # as for who only publishes
        self._check()
        claimed, running = self.claimed, self._running
        taken = [claimed.pop(job_id, None) or running.take(job_id) for job_id in ids]
        return {record.id: record for record in taken if record is not None}

    def claim_records(self, records: Iterable[Record]) -> None:
        """Note the records of jobs that are claimed, as they are written."""
        self._check()
        self.claimed.update((record.id, record) for record in records)

    def _check(self) -> None:
        if not self._checked:
            self._running.check()
            self._checked = True

    def committed(self) -> None:
        """Keep the records of the claimed jobs until they are asked for."""
        if self.claimed:
            self._running.keep(self.claimed)

    def touch(self, lane: int, due: int) -> None:
        """Note that a message in the lane is due then."""
        if due < self.touched.get(lane, due + 1):
            self.touched[lane] = due


Announce = Callable[[Mapping[int, int]], None]


def serve(thread: CallThread[Transaction], options: Options, announce: Announce) -> None:
    """Run the calls; the body of the thread."""
    session: Session | None = None
    while (calls := thread.take(_LARGEST_GROUP)) is not None:
        if session is None:
            try:
                session = Session(options)
            except BrokerqError as exc:
                fail_all(calls, exc)
                answer_all(calls)
                continue
        try:
            touched = _run_group(session, calls)
        except Exception as exc:  # noqa: BLE001 - nobody may wait for ever for a thread that died
            fail_all(calls, _unexpected(session.path, exc))
            session.close()
            session, touched = None, {}
        answer_all(calls)
        if touched:
            announce(touched)
    if session is not None:
        session.close()


def _unexpected(path: Path, exc: Exception) -> StorageError:
    error = StorageError(f"{path} cannot be used: {exc!r}")
    error.__cause__ = exc
    return error


def _run_group(
    session: Session, calls: list[Call[Transaction]], *, guarded: bool = False
) -> dict[int, int]:
    """Run the calls in one transaction; return the lanes that were touched.

    Hardly any call fails, so that one may is only prepared for (`guarded`) once one has.
    """
    try:
        session.begin(durable=any(call.durable for call in calls))
    except BrokerqError as exc:
        fail_all(calls, exc)
        return {}
    transaction = Transaction(session)
    try:
        for call in calls:
            _run(transaction, call, session.path, guarded=guarded)
            if call.error is not None and not guarded and len(calls) > 1:
                session.rollback()
                return _run_guarded(session, calls)
        if all(call.error is not None for call in calls):
            session.rollback()
            return {}
    except sqlite3.Error as exc:
        session.rollback()
        return _run_apart(session, calls, translate(exc, session.path))
    try:
        session.commit()
    except BrokerqError as exc:
        return _run_apart(session, calls, exc)
    transaction.committed()
    return transaction.touched


def _run_guarded(session: Session, calls: list[Call[Transaction]]) -> dict[int, int]:
    """Run calls again of which one has failed, so that only its own writes are undone."""
    for call in calls:
        call.error = None
    return _run_group(session, calls, guarded=True)


def _run_apart(
    session: Session, calls: list[Call[Transaction]], error: BrokerqError
) -> dict[int, int]:
    """Give each call of a transaction that is lost one of its own: most may be innocent.

    Where the disk is full, for one, what removes messages may still go through.
    """
    if len(calls) == 1:
        calls[0].error = error
        return {}
    touched: dict[int, int] = {}
    for call in calls:
        call.error = None
        for lane, due in _run_group(session, [call]).items():
            touched[lane] = min(due, touched.get(lane, due))
    return touched


def _run(transaction: Transaction, call: Call[Transaction], path: Path, *, guarded: bool) -> None:
    """Run one call; where it is guarded, its failure undoes what it wrote and nothing else.

    Raises `sqlite3.Error` where SQLite gave up the whole transaction.
    """
    db = transaction.db
    touched, claimed = dict(transaction.touched), dict(transaction.claimed)
    if guarded:
        db.execute("SAVEPOINT one")
    try:
        call.result = call.run(transaction)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the caller's
        call.error = translate(exc, path) if isinstance(exc, sqlite3.Error) else exc
        call.error.__cause__ = exc if call.error is not exc else exc.__cause__
        transaction.touched, transaction.claimed = touched, claimed
        if guarded:
            db.execute("ROLLBACK TO one")
    if guarded:
        db.execute("RELEASE one")
