"""The program's own connection, psycopg's with or without async, behind one face.

Its row factory, cursor factory and adapters are the program's and are not used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar, cast

import psycopg
from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor
from psycopg.adapt import AdaptersMap
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from brokerq.errors import CapabilityError
from brokerq_postgres.connection import InstantLoader
from brokerq_postgres.transaction import Answer, Rows, Values

T = TypeVar("T")

_ADAPTERS = AdaptersMap(psycopg.adapters)
_ADAPTERS.register_loader("timestamptz", InstantLoader)


class Pipe(Protocol):
    """What is sent goes out together."""

    async def sync(self) -> None:
        """Wait until all of it is answered."""
        ...


class Program(Protocol):
    """A connection of the program's."""

    @property
    @abstractmethod
    def status(self) -> TransactionStatus:
        """Whether a transaction is open; not known while statements are under way."""

    @property
    @abstractmethod
    def pipelined(self) -> bool:
        """Whether the program itself sends without waiting."""

    @property
    @abstractmethod
    def autocommit(self) -> bool:
        """Whether each statement is a transaction, unless one is begun."""

    @property
    @abstractmethod
    def encoding(self) -> str:
        """In which text comes and goes."""

    @abstractmethod
    async def send(self, statement: bytes, values: Values | None = None) -> Answer:
        """Send a statement."""

    @abstractmethod
    def pipeline(self) -> AbstractAsyncContextManager[Pipe]:
        """Send without waiting for answers, within the block."""


class _AsyncCursor(AsyncCursor[TupleRow]):
    """A cursor with psycopg's own adapters."""

    @property
    def adapters(self) -> AdaptersMap:
        return _ADAPTERS


class _Cursor(Cursor[TupleRow]):
    """As the other one."""

    @property
    def adapters(self) -> AdaptersMap:
        return _ADAPTERS


class _Base(Program):
    def __init__(self, connection: Connection[Any] | AsyncConnection[Any]) -> None:
        self._any = connection

    @property
    def status(self) -> TransactionStatus:
        return self._any.info.transaction_status

    @property
    def pipelined(self) -> bool:
        return self._any.info.pipeline_status != PipelineStatus.OFF

    @property
    def autocommit(self) -> bool:
        return self._any.autocommit

    @property
    def encoding(self) -> str:
        return self._any.info.encoding


class AsyncProgram(_Base):
    """An asynchronous connection."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        super().__init__(connection)
        self._connection = connection

    async def send(self, statement: bytes, values: Values | None = None) -> Answer:
        cursor = _AsyncCursor(self._connection, row_factory=tuple_row)
        return await cursor.execute(statement, values, binary=True)

    def pipeline(self) -> AbstractAsyncContextManager[Pipe]:
        return self._connection.pipeline()


class PlainProgram(_Base):
    """A connection that is not asynchronous: nothing here ever waits in the loop's sense."""

    def __init__(self, connection: Connection[Any]) -> None:
        super().__init__(connection)
        self._connection = connection

    async def send(self, statement: bytes, values: Values | None = None) -> Answer:
        cursor = _Cursor(self._connection, row_factory=tuple_row)
        return _PlainAnswer(cursor.execute(statement, values, binary=True))

    @asynccontextmanager
    async def pipeline(self) -> AsyncGenerator[Pipe]:
        with self._connection.pipeline() as pipeline:
            yield _PlainPipe(pipeline)


class _PlainAnswer(Answer):
    def __init__(self, cursor: Cursor[TupleRow]) -> None:
        self._cursor = cursor

    async def fetchall(self) -> Rows:
        return self._cursor.fetchall()


class _PlainPipe(Pipe):
    def __init__(self, pipeline: psycopg.Pipeline) -> None:
        self._pipeline = pipeline

    async def sync(self) -> None:
        self._pipeline.sync()


def plain(given: object) -> Program:
    """Return the connection, which is not asynchronous. Raises `CapabilityError`."""
    if isinstance(given, AsyncConnection):
        raise CapabilityError("the connection is asynchronous: use `await publish(...)`")
    if isinstance(given, Connection):
        return PlainProgram(cast("Any", given))
    kind = type(given)
    raise CapabilityError(
        "postgresql:// joins the transaction of a psycopg 3 connection, or of a SQLAlchemy session "
        f"or connection on one (postgresql+psycopg://), not of a {kind.__module__}."
        f"{kind.__qualname__}"
    )


def either(given: object) -> Program:
    """Return the connection, asynchronous or not. Raises `CapabilityError`."""
    if isinstance(given, AsyncConnection):
        return AsyncProgram(cast("Any", given))
    return plain(given)


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, as all do that use a `PlainProgram`."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise AssertionError("it waited")
