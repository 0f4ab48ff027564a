"""The SQLite broker keeps the contract, in real time and with short leases."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from brokerq_sqlite.boot import boot_id
from brokerq_sqlite.broker import SqliteBroker
from brokerq_sqlite.database import Database
from brokerq_sqlite.session import Options

from brokerq.broker import Lane
from brokerq.clock import SystemClock
from brokerq.testing import BrokerContract, BrokerHarness


def publish_bare(path: Path, prefix: str, lane: Lane, body: bytes) -> None:
    """Put a body without headers into the lane."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO brokerq_messages (lane, body)"
            " SELECT lanes.id, ? FROM brokerq_lanes AS lanes"
            " JOIN brokerq_queues AS queues ON queues.id = lanes.queue"
            " JOIN brokerq_apps AS apps ON apps.id = queues.app"
            " WHERE apps.prefix = ? AND queues.name = ? AND lanes.level = ?",
            (body, prefix, lane.queue, lane.level),
        )


class TestSqlite(BrokerContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> BrokerHarness:
        clock = SystemClock()
        options = Options(path=tmp_path / "jobs.db", lock_timeout=5.0, boot=boot_id)

        def make(prefix: str) -> SqliteBroker:
            return SqliteBroker(Database(options, prefix=prefix, clock=clock))

        async def pass_time(duration: timedelta) -> None:
            await asyncio.sleep(duration.total_seconds())

        async def foreign(prefix: str, lane: Lane, body: bytes) -> None:
            await asyncio.to_thread(publish_bare, options.path, prefix, lane, body)

        return BrokerHarness(
            make=make,
            clock=clock,
            pass_time=pass_time,
            lease=timedelta(seconds=0.9),
            tolerance=timedelta(seconds=0.2),
            foreign=foreign,
        )
