"""Stores whose outbox is before another broker, and programs with a transaction in them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from brokerq_postgres.options import read_options

from brokerq.url import Url
from tests.live.postgres_programs import Plain, Program, program
from tests.services.postgres import own_schema, standing_url

KINDS = ("sqlite3", "psycopg", "psycopg async")


@dataclass(frozen=True, slots=True)
class OutboxStore:
    """A store, and the table `orders` of a program's beside its own.

    Attributes:
        driver: Of the programs, one of `KINDS`.
        url: Of the store.
        within: What comes before the names of its tables.
        all_due: The statement that makes whatever is in the outbox due.
    """

    driver: str
    url: str
    within: str
    all_due: str

    @asynccontextmanager
    async def program(self) -> AsyncGenerator[Program]:
        """Connect; leaving closes without a commit."""
        if self.driver == "sqlite3":
            with closing(self._sqlite()) as db:
                yield Plain(db)
        else:
            async with program(self.driver, standing_url()) as mine:
                yield mine

    def _sqlite(self) -> sqlite3.Connection:
        return sqlite3.connect(self.url.removeprefix("sqlite:///"))

    def run(self, statement: str) -> None:
        """Run a statement and commit; the store must be open."""
        if self.driver == "sqlite3":
            with closing(self._sqlite()) as db, db:
                db.execute(statement)
        else:
            with psycopg.connect(standing_url()) as connection:
                connection.execute(statement.encode())

    async def orders(self) -> list[str]:
        """Return what programs have ordered."""
        async with self.program() as mine:
            rows = await mine.fetch(f"SELECT id FROM {self.within}orders ORDER BY id")  # noqa: S608
        return [str(order) for (order,) in rows]

    def make_orders(self) -> None:
        """Make the table."""
        self.run(f"CREATE TABLE {self.within}orders (id text)")

    def order(self, order: str) -> str:
        """Return the statement that puts one in."""
        return f"INSERT INTO {self.within}orders VALUES ('{order}')"  # noqa: S608


@contextmanager
def outbox_store(driver: str, folder: Path) -> Generator[OutboxStore]:
    """Yield a store of one's own: a file in the folder, or a schema of the server's."""
    if driver == "sqlite3":
        due = "UPDATE brokerq_outbox SET due_at = 0, ready_at = 0"
        yield OutboxStore(driver, f"sqlite:///{folder}/records.db", "", due)
        return
    with own_schema() as url:
        schema = read_options(Url.parse(url)).schema
        due = f"UPDATE {schema}.outbox SET due_at = now(), ready_at = now()"  # noqa: S608
        yield OutboxStore(driver, url, f"{schema}.", due)
