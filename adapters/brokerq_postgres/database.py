"""One app's use of a database: its connections, its transactions, and what it tells others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import PoolClosed, PoolTimeout

from brokerq_postgres.connection import Connection, Pool, bring_up, connect, has_ended, make_pool
from brokerq_postgres.errors import AGAIN, IN_THE_WAY, closed, forked, translate
from brokerq_postgres.listening import Wakeup
from brokerq_postgres.options import Options
from brokerq_postgres.queries import Queries
from brokerq_postgres.transaction import Rows, Transaction, Values
from brokerq_postgres.wire import escape

T = TypeVar("T")

_TRIES = 12
_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"
"""What is looked at under a lock must be what its last holder has left, not an older snapshot."""


class Database:
    """The pool of one app, for as long as somebody has it open.

    Attributes:
        app: The number that the app's rows bear; known once open.
        place: Which server and which database of it; known once open.
        migrate: Whether opening brings the schema up to date; else it refuses an old one.
    """

    def __init__(self, options: Options, *, prefix: str, migrate: bool = True) -> None:
        self.options = options
        self.prefix = prefix
        self.queries = Queries(options.schema)
        self.wakeup = Wakeup(options, self._notify)
        self.app = 0
        self.place: tuple[int, str] | None = None
        self.migrate = migrate
        self._users = 0
        self._turn = asyncio.Lock()
        self._pool: Pool | None = None
        self._checking: asyncio.Task[None] | None = None
        self._pid = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether it was opened by the parent of this process."""
        return self._pool is not None and self._pid != os.getpid()

    def require_open(self, is_open: bool) -> None:  # noqa: FBT001 - what its user thinks
        """Raise `StoreUnavailableError` if it is not open, or only in the parent process."""
        if not is_open:
            raise closed(self.options.place)
        if self.forked:
            raise forked(self.options.place)

    async def open(self) -> None:
        """Begin to use the database; each call needs its own `close`. Raises our errors."""
        if self.forked:
            self._users, self._pool, self._turn = 0, None, asyncio.Lock()
            self.wakeup = Wakeup(self.options, self._notify)
        async with self._turn:
            if self._pool is None:
                await self._connect()
            self._users += 1

    async def _connect(self) -> None:
        options = self.options
        connection = await connect(options, options.conninfo)
        try:
            await bring_up(options, connection, migrate=self.migrate)
            values = {"prefix": escape(self.prefix)}
            for name in ("find_app", "add_app", "find_app"):
                row = await (await connection.execute(self.queries[name], values)).fetchone()
                if row is not None:
                    self.app = int(row[0])
                    break
            row = await (await connection.execute(self.queries["find_place"])).fetchone()
            self.place = None if row is None else (row[0], row[1])
        except psycopg.Error as exc:
            raise translate(exc, options.place) from exc
        finally:
            await connection.close()
        pool = make_pool(options)
        await pool.open()
        self._pool, self._pid = pool, os.getpid()

    async def close(self) -> None:
        """End the use; the last one disconnects."""
        async with self._turn:
            self._users -= 1
            if self._users or self.forked:
                return
            await self.wakeup.close()
            pool, self._pool = self._pool, None
            if self._checking is not None:
                self._checking.cancel()
            if pool is not None:
                await pool.close()

    async def fetch(self, name: str, values: Values) -> Rows:
        """Run one statement, which is a transaction by itself. Raises our errors."""
        return await self.fetch_statement(self.queries[name], values)

    async def fetch_statement(self, statement: bytes, values: Values) -> Rows:
        """Run a statement that was put together at run time."""
        return await self._insist(lambda: self._fetch(statement, values), IN_THE_WAY)

    async def _fetch(self, statement: bytes, values: Values) -> Rows:
        sent = False
        try:
            async with self._connection() as connection:
                cursor = connection.cursor(binary=True)
                sent = True
                await cursor.execute(statement, values)
                return [] if cursor.rownumber is None else await cursor.fetchall()
        except IN_THE_WAY:
            raise
        except (psycopg.Error, PoolTimeout) as exc:
            raise translate(exc, self.options.place, committing=sent) from exc

    async def change(
        self,
        run: Callable[[Transaction], Awaitable[T]],
        *,
        again: tuple[type[Exception], ...] = AGAIN,
    ) -> T:
        """Run it in a transaction; again from the start where another one was in its way."""
        return await self._insist(lambda: self._change(run, again), again)

    async def _insist(
        self, attempt: Callable[[], Awaitable[T]], again: tuple[type[Exception], ...]
    ) -> T:
        """Try again after such an error, which has undone everything, a limited number of times."""
        error: Exception | None = None
        for _ in range(_TRIES):
            try:
                return await attempt()
            except again as exc:
                error = exc
        assert error is not None  # noqa: S101 - there is at least one try
        raise translate(error, self.options.place) from error

    async def _change(
        self, run: Callable[[Transaction], Awaitable[T]], again: tuple[type[Exception], ...]
    ) -> T:
        outcome: list[T] = []
        try:
            async with self._connection() as connection:
                transaction = Transaction(connection, self.queries, self.app)
                error = await self._run(connection, transaction, run, outcome)
                if error is not None:
                    raise error
        except again:
            raise
        except (psycopg.Error, PoolTimeout) as exc:
            committing = bool(outcome)
            raise translate(exc, self.options.place, committing=committing) from exc
        self.wakeup.announce(transaction.touched)
        return outcome[0]

    async def _run(
        self,
        connection: Connection,
        transaction: Transaction,
        run: Callable[[Transaction], Awaitable[T]],
        outcome: list[T],
    ) -> Exception | None:
        """Run and commit; return what went wrong, everything that was sent having been answered.

        At the end of a pipeline psycopg sends a Flush, after the last Sync. Nothing answers it, but
        a pooler assigns a server's connection for it, and takes it back only after what this client
        sends next: so the transaction has to go on beyond the pipeline there.
        """
        pooled = self.options.pooled
        async with connection.pipeline() as pipeline:
            try:
                await connection.execute(_BEGIN)
                if pooled:
                    await transaction.send("bound_transaction", self.options.timeouts)
                outcome.append(await run(transaction))
                if not pooled:
                    await connection.execute(b"COMMIT")
                await pipeline.sync()
            except Exception as exc:  # noqa: BLE001 - returned, to be raised outside
                with suppress(psycopg.Error):  # of what came after, which was not done
                    await pipeline.sync()
                return exc
        if pooled:
            await connection.execute(b"COMMIT")
        return None

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        pool = self._pool
        if pool is None:
            raise closed(self.options.place)
        connection = await self._get_connection(pool)
        try:
            yield connection
        finally:
            if connection.closed:
                self._check_others(pool)
            await asyncio.shield(_give_back(pool, connection))

    async def _get_connection(self, pool: Pool) -> Connection:
        while True:
            try:
                connection = await pool.getconn()
            except PoolClosed as exc:
                raise closed(self.options.place) from exc
            if not has_ended(connection):
                return connection
            await connection.close()
            await pool.putconn(connection)

    def _check_others(self, pool: Pool) -> None:
        """Look whether the idle connections are gone as well, so that none has to be met."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(pool.check(), name="brokerq check connections")

    async def _notify(self, payload: str) -> None:
        values = {"channel": self.options.channel, "payload": payload}
        await self.fetch("notify", values)


async def _give_back(pool: Pool, connection: Connection) -> None:
    """Return a connection to the pool, its transaction undone if it was left open."""
    status = connection.info.transaction_status
    if status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
        with suppress(psycopg.Error):  # the connection is gone then, and the transaction with it
            await connection.rollback()
    await pool.putconn(connection)
