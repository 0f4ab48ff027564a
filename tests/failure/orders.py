"""What a program of these tests sells, in transactions of its own in the store's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager

import psycopg
from brokerq_postgres.options import read_options

from brokerq.url import Url

_SQLITE = "sqlite:///"
Connection = sqlite3.Connection | psycopg.Connection


class Orders:
    """The table, in the schema of the store's URL where there are schemas; the store must exist."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._table = "orders"
        if not url.startswith(_SQLITE):
            self._options = read_options(Url.parse(url))
            self._table = f"{self._options.schema}.orders"

    @contextmanager
    def connect(self) -> Generator[Connection]:
        """Connect; leaving closes without a commit."""
        if self._url.startswith(_SQLITE):
            with closing(sqlite3.connect(self._url.removeprefix(_SQLITE))) as db:
                yield db
        else:
            with closing(psycopg.connect(self._options.conninfo)) as db:
                yield db

    def make(self) -> None:
        """Make the table if it is missing."""
        with self.connect() as db:
            _run(db, f"CREATE TABLE IF NOT EXISTS {self._table} (n integer)")
            db.commit()

    def add(self, db: Connection, n: int) -> None:
        """Put an order in, without a commit."""
        _run(db, f"INSERT INTO {self._table} VALUES ({n:d})")  # noqa: S608 - a number

    def read(self) -> list[int]:
        """Return all that is committed."""
        with self.connect() as db:
            query = f"SELECT n FROM {self._table} ORDER BY n"  # noqa: S608 - a name of our own
            return [n for (n,) in _run(db, query).fetchall()]


def _run(db: Connection, statement: str) -> sqlite3.Cursor | psycopg.Cursor:
    if isinstance(db, sqlite3.Connection):
        return db.execute(statement)
    return db.execute(statement.encode())
