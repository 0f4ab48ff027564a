"""The PostgreSQL store is held to the contract, in real time and with short leases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import datetime, timedelta
from typing import cast
from uuid import uuid4

import psycopg
import pytest
from brokerq_postgres import PostgresStore, connect
from brokerq_postgres.options import Options, read_options

from brokerq.broker import Broker
from brokerq.clock import SystemClock
from brokerq.store import Store
from brokerq.testing.store_contract import StoreContract
from brokerq.testing.store_harness import ProgramConnection, StoreHarness
from brokerq.url import Url
from tests.services.postgres import own_schema


class PostgresHarness(StoreHarness):
    """Apps of its own in a schema that other tests use too."""

    def __init__(self, url: str) -> None:
        self.clock = SystemClock()
        self.options = read_options(Url.parse(url))
        self.apps = uuid4().hex[:12]
        backend = connect(self.options, prefix=self.apps, clock=self.clock)
        assert backend.store is not None
        self.store: Store = backend.store
        self.broker: Broker | None = backend.broker
        self.lease = timedelta(seconds=0.5)
        self.others: list[PostgresStore] = []

    def now(self) -> datetime:
        return self.clock.now()

    async def pass_time(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())

    def connection(self) -> AbstractContextManager[ProgramConnection]:
        return own_connection(self.options)

    async def another(self, prefix: str | None = None) -> Store:
        app = self.apps if prefix is None else f"{self.apps}-{prefix}"
        store = connect(self.options, prefix=app, clock=self.clock).store
        assert isinstance(store, PostgresStore)
        await store.open()
        self.others.append(store)
        return store


@contextmanager
def own_connection(options: Options) -> Generator[ProgramConnection]:
    """Connect as a program does; its tables vanish with the connection."""
    with closing(psycopg.connect(options.conninfo)) as connection:
        connection.execute("SET search_path TO pg_temp")
        connection.commit()
        yield cast("ProgramConnection", connection)


@pytest.fixture(scope="module")
def schema() -> Iterator[str]:
    """One schema for all cases of a process: each has apps of its own in it."""
    with own_schema() as url:
        yield url


class TestPostgresStore(StoreContract):
    @pytest.fixture
    async def harness(self, schema: str) -> AsyncIterator[StoreHarness]:
        harness = PostgresHarness(schema)
        await harness.store.open()
        assert harness.broker is not None
        await harness.broker.open()
        yield harness
        for store in harness.others:
            await store.close()
        await harness.broker.close()
        await harness.store.close()
