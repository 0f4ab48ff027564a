"""Programs with a transaction of their own in PostgreSQL, by each driver that can be joined."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

import psycopg
import pytest
from brokerq_postgres.options import read_options
from psycopg import sql
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from brokerq import BrokerQ
from brokerq.engine import relay
from brokerq.url import Url
from tests.services.postgres import own_schema, standing_url

KINDS = ("psycopg", "psycopg async", "sqlalchemy", "sqlalchemy async")


class Program(Protocol):
    """A transaction, whatever the driver.

    Attributes:
        given: What brokerq is given.
    """

    given: Any

    @abstractmethod
    async def execute(self, statement: str) -> None:
        """Run a statement."""

    @abstractmethod
    async def fetch(self, query: str) -> Sequence[Any]:
        """Run a query, and return its rows."""

    @abstractmethod
    async def commit(self) -> None:
        """Commit."""

    @abstractmethod
    async def rollback(self) -> None:
        """Roll back."""


class Plain(Program):
    """sqlite3, psycopg, or a session of SQLAlchemy."""

    def __init__(self, given: Any) -> None:
        self.given = given

    async def execute(self, statement: str) -> None:
        self._execute(statement)

    async def fetch(self, query: str) -> Sequence[Any]:
        return list(self._execute(query).fetchall())

    def _execute(self, statement: str) -> Any:
        is_session = isinstance(self.given, Session)
        return self.given.execute(text(statement) if is_session else statement)

    async def commit(self) -> None:
        self.given.commit()

    async def rollback(self) -> None:
        self.given.rollback()


class Async(Program):
    """The same, with async."""

    def __init__(self, given: Any) -> None:
        self.given = given

    async def execute(self, statement: str) -> None:
        await self._execute(statement)

    async def fetch(self, query: str) -> Sequence[Any]:
        result = await self._execute(query)
        rows = result.fetchall()
        return list(await rows if inspect.isawaitable(rows) else rows)

    async def _execute(self, statement: str) -> Any:
        is_session = isinstance(self.given, AsyncSession)
        return await self.given.execute(text(statement) if is_session else statement)

    async def commit(self) -> None:
        await self.given.commit()

    async def rollback(self) -> None:
        await self.given.rollback()


def sqlalchemy_url(url: str) -> str:
    """Return the URL as SQLAlchemy wants it."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@asynccontextmanager
async def program(kind: str, url: str) -> AsyncGenerator[Program]:
    """Connect; leaving closes without a commit."""
    if kind == "psycopg":
        connection = psycopg.connect(url)
        try:
            yield Plain(connection)
        finally:
            connection.close()
    elif kind == "psycopg async":
        async_connection = await psycopg.AsyncConnection.connect(url)
        try:
            yield Async(async_connection)
        finally:
            await async_connection.close()
    elif kind == "sqlalchemy":
        engine = create_engine(sqlalchemy_url(url))
        with Session(engine) as session:
            yield Plain(session)
        engine.dispose()
    else:
        async_engine = create_async_engine(sqlalchemy_url(url))
        async with AsyncSession(async_engine) as async_session:
            yield Async(async_session)
        await async_engine.dispose()


def declare(bq: BrokerQ) -> None:
    @bq.job(idempotency_key="order")
    async def ship(order: str, boxes: int = 1) -> str:
        return f"{order}: {boxes}"


def ship(bq: BrokerQ, connection: Any = None, **options: Any) -> Shipping:
    return Shipping(bq, {"connection": connection, **options} if connection else options)


@dataclass(frozen=True, slots=True)
class Shipping:
    bq: BrokerQ
    options: dict[str, Any]

    async def publish(self, order: str, boxes: int = 1) -> Any:
        payload = {"order": order, "boxes": boxes}
        return await self.bq.publish("ship", payload, **self.options)

    def publish_sync(self, order: str) -> Any:
        return self.bq.publish_sync("ship", {"order": order, "boxes": 1}, **self.options)


async def waiting(bq: BrokerQ) -> int:
    [stats] = await bq.queues.stats(["default"])
    return stats.ready + stats.delayed


def somebody_waits(schema: str) -> bool:
    """Tell whether a statement on the tables waits for a lock of another transaction."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND position(%s in query) > 0
    """
    with psycopg.connect(standing_url()) as connection:
        row = connection.execute(query, (read_options(Url.parse(schema)).schema,)).fetchone()
    return row is not None and row[0] > 0


@dataclass(frozen=True, slots=True)
class Place:
    """A schema of brokerq's, with a table of the program's in it."""

    url: str
    schema: str

    @property
    def insert(self) -> str:
        statement = sql.SQL("INSERT INTO {}.orders_of_mine VALUES ('o-1')")
        return statement.format(sql.Identifier(self.schema)).as_string()

    @property
    def select(self) -> str:
        statement = sql.SQL("SELECT count(*) FROM {}.orders_of_mine")
        return statement.format(sql.Identifier(self.schema)).as_string()

    def count(self) -> int:
        with psycopg.connect(standing_url()) as connection:
            row = connection.execute(self.select.encode()).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture(scope="module")
def schema() -> Iterator[str]:
    with own_schema() as url:
        yield url


@pytest.fixture(params=["postgresql", "memory"])
async def bq(
    request: pytest.FixtureRequest, schema: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[BrokerQ]:
    """The messages go to their queue in the same database, or to the outbox for another broker."""
    monkeypatch.setattr(relay, "POLL", 0.05)
    url = schema if request.param == "postgresql" else f"memory://{uuid4()}"
    prefix = f"tx-{uuid4().hex[:12]}"
    async with BrokerQ("shop", url=url, store_url=schema, prefix=prefix) as bq:
        declare(bq)
        yield bq


@pytest.fixture
def place(schema: str, bq: BrokerQ) -> Iterator[Place]:
    name = read_options(Url.parse(schema)).schema
    place = Place(schema, name)
    table = sql.SQL("{}.orders_of_mine").format(sql.Identifier(name))
    with psycopg.connect(standing_url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE TABLE {} (id text)").format(table))
        yield place
        connection.execute(sql.SQL("DROP TABLE {}").format(table))


@pytest.fixture(params=KINDS)
async def mine(request: pytest.FixtureRequest) -> AsyncIterator[Program]:
    async with program(request.param, standing_url()) as mine:
        yield mine


@pytest.fixture
def db() -> Iterator[psycopg.Connection]:
    with psycopg.connect(standing_url()) as connection:
        yield connection
