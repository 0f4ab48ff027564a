"""The PostgreSQL broker keeps the contract, in real time and with short leases."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from brokerq_postgres.broker import PostgresBroker
from brokerq_postgres.database import Database
from brokerq_postgres.options import Options, read_options
from brokerq_postgres.queries import Queries

from brokerq.broker import Lane
from brokerq.clock import SystemClock
from brokerq.testing import BrokerContract, BrokerHarness
from brokerq.url import Url
from tests.services.postgres import own_schema

PUBLISH_BARE = """
    INSERT INTO {schema}.messages (lane, body)
    SELECT lanes.id, %b FROM {schema}.lanes
    JOIN {schema}.queues ON queues.id = lanes.queue JOIN {schema}.apps ON apps.id = queues.app
    WHERE apps.prefix = %s AND queues.name = %s AND lanes.level = %s
"""


def publish_bare(options: Options, prefix: str, lane: Lane, body: bytes) -> None:
    """Put a body without headers into the lane."""
    with psycopg.connect(options.conninfo) as connection:
        statement = Queries(options.schema).fill(PUBLISH_BARE)
        connection.execute(statement, (body, prefix, lane.queue, lane.level))


@pytest.fixture(scope="module")
def schema() -> Iterator[str]:
    """One schema for all cases of a process: each has apps of its own in it."""
    with own_schema() as url:
        yield url


class TestPostgres(BrokerContract):
    @pytest.fixture
    def harness(self, schema: str) -> BrokerHarness:
        clock = SystemClock()
        options = read_options(Url.parse(schema))

        def make(prefix: str) -> PostgresBroker:
            return PostgresBroker(Database(options, prefix=prefix), clock=clock)

        async def pass_time(duration: timedelta) -> None:
            await asyncio.sleep(duration.total_seconds())

        async def foreign(prefix: str, lane: Lane, body: bytes) -> None:
            await asyncio.to_thread(publish_bare, options, prefix, lane, body)

        return BrokerHarness(
            make=make,
            clock=clock,
            pass_time=pass_time,
            lease=timedelta(seconds=0.9),
            tolerance=timedelta(seconds=0.2),
            foreign=foreign,
        )
