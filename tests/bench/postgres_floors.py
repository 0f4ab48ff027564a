"""Raw psycopg, which brokerq is measured beside, each case in a process of its own.

`python -m tests.bench.postgres_floors NAME URL ...`. All durable: each publish, each claim and each
deletion of what was claimed is a commit that is waited for, so that a worker that dies loses
nothing. They do nothing else: no records, no leases, no retries.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from uuid_utils import uuid7

from tests.bench.meter import Figures, Meter

BATCH = 1000
Connection = AsyncConnection[TupleRow]
INSERT = "INSERT INTO floor (queue, headers, body) VALUES ('default', %s, %s)"
INSERT_MANY = """
INSERT INTO floor (queue, headers, body)
SELECT 'default', headers, body
FROM unnest(%b::text[], %b::bytea[]) AS sent (headers, body)
"""
CREATE = """
CREATE TABLE floor (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    claimed boolean NOT NULL DEFAULT false,
    headers text NOT NULL,
    body bytea NOT NULL
)
"""
INDEX = "CREATE INDEX ON floor (queue, id) WHERE NOT claimed"
CLAIM = """
UPDATE floor SET claimed = true WHERE id = ANY (
    ARRAY(
        SELECT id FROM floor WHERE queue = %s AND NOT claimed
        ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
    )
) RETURNING id, headers, body
"""
REMOVE = "DELETE FROM floor WHERE id = ANY (%s)"


@asynccontextmanager
async def _table(url: str) -> AsyncGenerator[Connection]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in ("DROP TABLE IF EXISTS floor", CREATE, INDEX):
            await connection.execute(statement)
        yield connection


def _row(number: int) -> tuple[str, bytes]:
    """Return what any client has to make of a job: its headers with its id, and its arguments."""
    headers = json.dumps({"id": str(uuid7()), "job": "noop"})
    return headers, json.dumps({"number": number}).encode()


async def _insert_many(connection: Connection, count: int) -> None:
    for _ in range(count // BATCH):
        headers, bodies = zip(*(_row(number) for number in range(BATCH)), strict=True)
        await connection.execute(INSERT_MANY, (list(headers), list(bodies)))


async def publish_one(url: str, count: int) -> Figures:
    """Insert one row at a time, each a commit."""
    async with _table(url) as connection:
        meter = Meter()
        for number in range(count):
            await connection.execute(INSERT, _row(number))
        return meter.figures(count)


async def publish_many(url: str, count: int) -> Figures:
    """Insert many rows with each statement."""
    async with _table(url) as connection:
        meter = Meter()
        await _insert_many(connection, count)
        return meter.figures(count)


async def drain(url: str, count: int, batch: int) -> Figures:
    """Claim `batch` rows, do nothing with them, and delete them; then the next.

    Claim and deletion are commits of their own: what was claimed outlives whoever claimed it.
    """
    async with _table(url) as connection:
        await _insert_many(connection, count)
        await connection.execute("ANALYZE floor")
        meter = Meter()
        done = 0
        cursor = connection.cursor(binary=True)
        while True:
            await cursor.execute(CLAIM, ("default", batch))
            rows = await cursor.fetchall()
            if not rows:
                break
            for _, headers, body in rows:
                json.loads(headers)
                json.loads(body)
            await cursor.execute(REMOVE, ([id_ for id_, *_ in rows],))
            done += len(rows)
        return meter.figures(done)


async def latency(url: str, count: int) -> Figures:
    """From an insert with a notification on one connection to the row in another's hands."""
    async with (
        _table(url) as connection,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as listening,
    ):
        await listening.execute("LISTEN floor")
        took: list[float] = []
        for number in range(count):
            begin = time.perf_counter()
            await connection.execute(INSERT, _row(number))
            await connection.execute("NOTIFY floor")
            async for _ in listening.notifies(stop_after=1):
                pass
            await (await listening.execute(CLAIM, ("default", 1))).fetchall()
            took.append(time.perf_counter() - begin)
            await asyncio.sleep(0.005)
    took.sort()
    return {"p50_ms": took[count // 2] * 1000, "p99_ms": took[int(count * 0.99)] * 1000}


CASES: dict[str, Callable[..., Coroutine[Any, Any, Figures]]] = {
    case.__name__: case for case in (publish_one, publish_many, drain, latency)
}

if __name__ == "__main__":
    name, url, *numbers = sys.argv[1:]
    figures = asyncio.run(CASES[name](url, *map(int, numbers)))
    print(json.dumps(figures), flush=True)
