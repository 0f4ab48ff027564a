"""The SQLite store is held to the contract, in real time and with short leases."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from brokerq_sqlite import SqliteStore, connect
from brokerq_sqlite.boot import boot_id
from brokerq_sqlite.session import Options

from brokerq.broker import Broker
from brokerq.clock import SystemClock
from brokerq.store import Store
from brokerq.testing.store_contract import StoreContract
from brokerq.testing.store_harness import ProgramConnection, StoreHarness

APP = "shop"


class SqliteHarness(StoreHarness):
    def __init__(self, path: Path) -> None:
        self.clock = SystemClock()
        self.options = Options(path=path, lock_timeout=5.0, boot=boot_id)
        backend = connect(self.options, prefix=APP, clock=self.clock)
        assert backend.store is not None
        self.store: Store = backend.store
        self.broker: Broker | None = backend.broker
        self.lease = timedelta(seconds=0.5)
        self.others: list[SqliteStore] = []

    def now(self) -> datetime:
        return self.clock.now()

    async def pass_time(self, duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())

    def connection(self) -> AbstractContextManager[ProgramConnection]:
        return closing(sqlite3.connect(self.options.path))

    async def another(self, prefix: str | None = None) -> Store:
        backend = connect(self.options, prefix=prefix or APP, clock=self.clock)
        store = backend.store
        assert isinstance(store, SqliteStore)
        await store.open()
        self.others.append(store)
        return store


class TestSqliteStore(StoreContract):
    @pytest.fixture
    async def harness(self, tmp_path: Path) -> AsyncIterator[StoreHarness]:
        harness = SqliteHarness(tmp_path / "jobs.db")
        await harness.store.open()
        assert harness.broker is not None
        await harness.broker.open()
        yield harness
        for store in harness.others:
            await store.close()
        await harness.broker.close()
        await harness.store.close()
