"""The raw clients that brokerq is measured beside: as little as does the same durable work."""

import asyncio
import json
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import TypeAdapter
from typing_extensions import TypedDict
from uuid_utils import uuid7

BODY = json.dumps({"number": 1}).encode()
INSERT = "INSERT INTO messages (queue, headers, body) VALUES (?, ?, ?)"
ROW = ("default", json.dumps({"id": "0" * 36, "job": "noop"}), BODY)
CLAIM = """
DELETE FROM messages WHERE id IN (
    SELECT id FROM messages WHERE queue = ? ORDER BY id LIMIT ?
) RETURNING id, headers, body
"""


class Arguments(TypedDict):
    """What a no-op job takes."""

    number: int


@contextmanager
def _database(path: Path) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, queue TEXT, headers TEXT, body BLOB)"
        )
        yield db


def insert_one(folder: Path, count: int) -> float:
    """Return durable inserts a second, one transaction each."""
    with _database(folder / "raw.db") as db:
        begin = time.perf_counter()
        for _ in range(count):
            db.execute(INSERT, ROW)
        return count / (time.perf_counter() - begin)


def insert_many(folder: Path, count: int, batch: int = 1000) -> float:
    """Return durable inserts a second, in transactions of `batch`, each of a job of its own."""
    with _database(folder / "raw.db") as db:
        begin = time.perf_counter()
        for _ in range(count // batch):
            db.execute("BEGIN IMMEDIATE")
            db.executemany(INSERT, (_row(number) for number in range(batch)))
            db.execute("COMMIT")
        return count / (time.perf_counter() - begin)


def _row(number: int) -> tuple[str, str, bytes]:
    """Return what any client has to make of a job: its headers with its id, and its arguments."""
    headers = json.dumps({"id": str(uuid7()), "job": "noop"})
    return "default", headers, json.dumps({"number": number}).encode()


def drain(folder: Path, count: int, batch: int) -> float:
    """Return rows a second that are claimed and deleted, in transactions of `batch`."""
    with _database(folder / "raw.db") as db:
        db.execute("BEGIN IMMEDIATE")
        db.executemany(INSERT, [ROW] * count)
        db.execute("COMMIT")
        begin = time.perf_counter()
        done = 0
        while rows := db.execute(CLAIM, ("default", batch)).fetchall():
            for _, headers, body in rows:
                json.loads(headers)
                json.loads(body)
            done += len(rows)
        return done / (time.perf_counter() - begin)


def loop(count: int, concurrency: int) -> float:
    """Return jobs a second of a loop that only makes a task, a timeout and a validation each."""
    adapter = TypeAdapter(Arguments)

    async def job() -> None:
        async with asyncio.timeout(300):  # noqa: ASYNC100 - what it costs is the point
            adapter.validate_json(BODY)

    async def main() -> None:
        for _ in range(count // concurrency):
            await asyncio.wait([asyncio.create_task(job()) for _ in range(concurrency)])

    begin = time.perf_counter()
    asyncio.run(main())
    return count / (time.perf_counter() - begin)
