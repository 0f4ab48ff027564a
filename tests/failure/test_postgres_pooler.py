"""Behind a pooler in transaction mode no connection to the server is kept without need.

A client that is idle may stay so for as long as others wait for the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from uuid import uuid4

import psycopg
import pytest
from brokerq_postgres.database import Database
from brokerq_postgres.joining import join
from brokerq_postgres.options import read_options
from brokerq_postgres.program import either
from brokerq_postgres.transaction import Transaction

from brokerq.errors import RefusedError
from brokerq.url import Url
from tests.failure.processes import until
from tests.services.postgres import with_parameters
from tests.services.postgres_server import Pooler, Server
from tests.services.proxy import TO_SERVER, Proxy

pytestmark = pytest.mark.timeout(240)  # a server may take long to start on a busy machine

SLOW = 25.0
"""Bytes a second: what is sent last arrives when all that was sent before it is answered."""


@pytest.fixture
def pooler(postgres: Server) -> Iterator[Pooler]:
    with Pooler(postgres.port, size=1) as pooler:
        yield pooler


@pytest.fixture
def proxy(pooler: Pooler) -> Iterator[Proxy]:
    with Proxy(pooler.port) as proxy:
        yield proxy


@pytest.fixture
def url(pooler: Pooler, proxy: Proxy) -> str:
    return pooler.url.replace(f":{pooler.port}/", f":{proxy.port}/")


@pytest.fixture
async def database(url: str) -> AsyncGenerator[Database]:
    there = with_parameters(url, pooler="transaction", schema=f"pooler_{uuid4().hex[:8]}")
    database = Database(read_options(Url.parse(there)), prefix="shop")
    await database.open()
    yield database
    await database.close()


async def expect_a_connection(pooler: Pooler, proxy: Proxy) -> None:
    """Fail unless another client gets the only connection, once all that was sent has arrived."""
    await until(lambda: proxy.waiting(TO_SERVER) == 0, "all to arrive")
    proxy.resume()
    async with asyncio.timeout(10):
        other = await psycopg.AsyncConnection.connect(pooler.url, autocommit=True)
        async with other:
            await other.execute("SELECT 1")


async def test_a_transaction_gives_its_connection_back(
    pooler: Pooler, proxy: Proxy, database: Database
) -> None:
    async def run(transaction: Transaction) -> None:
        await transaction.fetch("find_place", {})
        proxy.slow(SLOW, TO_SERVER)

    await database.change(run)
    await expect_a_connection(pooler, proxy)


async def test_a_transaction_that_fails_gives_its_connection_back(
    pooler: Pooler, proxy: Proxy, database: Database
) -> None:
    async def run(transaction: Transaction) -> None:
        await transaction.fetch("find_place", {})
        proxy.slow(SLOW, TO_SERVER)
        raise LookupError

    with pytest.raises(LookupError):
        await database.change(run)
    await expect_a_connection(pooler, proxy)


async def test_joining_no_transaction_takes_no_connection(
    pooler: Pooler, proxy: Proxy, url: str, database: Database
) -> None:
    async def run(_: Transaction) -> None:
        raise AssertionError("there is nothing to join")

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as mine:
        proxy.slow(SLOW, TO_SERVER)
        with pytest.raises(RefusedError, match="no transaction is open"):
            await join(either(mine), database, run, wrote=bool)
        await expect_a_connection(pooler, proxy)
