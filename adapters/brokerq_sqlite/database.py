"""One file, opened by this process: what the broker and the store of a URL share."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from brokerq.clock import Clock
from brokerq_sqlite import writer
from brokerq_sqlite.calls import Call, CallThread, answer_all
from brokerq_sqlite.errors import closed, forked, translate
from brokerq_sqlite.queries import load
from brokerq_sqlite.session import Options, connect_reader
from brokerq_sqlite.wakeup import Wakeup
from brokerq_sqlite.wire import to_micros
from brokerq_sqlite.writer import Transaction

A = TypeVar("A")
T = TypeVar("T")

_LARGEST_READ_GROUP = 1
_FIND_APP = load("find_app")
_ADD_APP = load("add_app")


class Database:
    """A writing and a reading thread on one file, for as long as somebody has it open.

    Attributes:
        app: The number that the app's rows bear; known once open.
    """

    def __init__(self, options: Options, *, prefix: str, clock: Clock) -> None:
        self.path = options.path
        self.prefix = prefix
        self.clock = clock
        self.wakeup = Wakeup(Path(f"{self.path}-wake"), self.now)
        self.app = 0
        self._options = options
        self._users = 0
        self._writer: CallThread[Transaction] | None = None
        self._reader: CallThread[sqlite3.Connection] | None = None

    @property
    def forked(self) -> bool:
        """Whether it was opened by the parent of this process."""
        return self._writer is not None and self._writer.forked

    def require_open(self, is_open: bool) -> None:  # noqa: FBT001 - what its user thinks
        """Raise `StoreUnavailableError` if it is not open, or only in the parent process."""
        if not is_open:
            raise closed(self.path)
        if self.forked:
            raise forked(self.path)

    def now(self) -> int:
        """Return the wall clock's time in microseconds."""
        return to_micros(self.clock.now())

    async def open(self) -> None:
        """Begin to use the file; each call needs its own `close`."""
        if self.forked:
            self._users, self._writer, self._reader = 0, None, None
            self.wakeup = Wakeup(Path(f"{self.path}-wake"), self.now)
        self._users += 1
        try:
            self.app = await self.write(self._find_app)
        except BaseException:
            await self.close()
            raise

    def _find_app(self, transaction: Transaction) -> int:
        db = transaction.db
        row = db.execute(_FIND_APP, (self.prefix,)).fetchone()
        if row is None:
            row = db.execute(_ADD_APP, (self.prefix,)).fetchone()
        return int(row[0])

    async def close(self) -> None:
        """End the use; the last one waits until all that was queued is written."""
        self._users -= 1
        if self._users:
            return
        writing, self._writer = self._writer, None
        reading, self._reader = self._reader, None
        for thread in (reading, writing):  # the writer last: closing it tidies the file up
            if thread is not None and not thread.forked:
                thread.stop()
                await asyncio.get_running_loop().run_in_executor(None, thread.join)
        self.wakeup.close()

    def write(
        self, run: Callable[[Transaction], T], *, durable: bool = True, patient: bool = False
    ) -> asyncio.Future[T]:
        """Run it in a transaction that others may share; answered after the commit.

        It sees what those before it have written. If it fails only its own writes are undone. What
        need not be `durable` is there for every process at once, and lost with the host if that
        fails before anything durable is written: right for leases, which end with the boot anyway.
        What is `patient` may be written some milliseconds later, to save a transaction of its own.
        """
        call: Call[Transaction] = Call(run, durable=durable, patient=patient)
        if self._writer is None and self._users:
            self._writer = CallThread("brokerq-sqlite-writer", self._serve_writes)
        self._submit(self._writer, call)
        return cast("asyncio.Future[T]", call.future)

    def read(self, run: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Run it on what is committed, without holding up who writes."""
        call: Call[sqlite3.Connection] = Call(run)
        if self._reader is None and self._users:
            self._reader = CallThread("brokerq-sqlite-reader", self._serve_reads)
        self._submit(self._reader, call)
        return cast("asyncio.Future[T]", call.future)

    def _submit(self, thread: CallThread[A] | None, call: Call[A]) -> None:
        if thread is None or not thread.submit(call):
            call.future.set_exception(closed(self.path))

    def _serve_writes(self, thread: CallThread[Transaction]) -> None:
        writer.serve(thread, self._options, self.wakeup.announce)

    def _serve_reads(self, thread: CallThread[sqlite3.Connection]) -> None:
        db: sqlite3.Connection | None = None
        while (calls := thread.take(_LARGEST_READ_GROUP)) is not None:
            (call,) = calls
            try:
                if db is None:
                    db = connect_reader(self._options)
                call.result = call.run(db)
            except sqlite3.Error as exc:
                call.error = translate(exc, self.path)
                call.error.__cause__ = exc
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is the caller's
                call.error = exc
            answer_all(calls)
        if db is not None:
            db.close()
