"""Writing within a transaction that the program has begun on a connection of its own.

SQLite tells nobody of a commit that another connection makes: who waits for messages finds those by
looking, within about a second.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from brokerq.errors import CapabilityError, RefusedError
from brokerq.records import Record
from brokerq_sqlite.writer import Transaction

_FIND_FILE = "SELECT file FROM pragma_database_list WHERE name = 'main'"


class Joined(Transaction):
    """The program's transaction, as far as ours is used to write records and messages."""

    __slots__ = ()

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.db = connection
        self.touched: dict[int, int] = {}
        self.claimed: dict[str, Record] = {}

    def take_records(self, ids: Sequence[str]) -> dict[str, Record]:  # noqa: ARG002 - none is kept
        """Return none: every record is read."""
        return {}


@contextmanager
def joined(given: object, path: Path) -> Generator[Joined]:
    """Write in the transaction that is open on the file; what was written is undone on failure.

    Raises `CapabilityError` for anything but a connection that is open on it, and `RefusedError`
    where there is no transaction and none begins with a write either.
    """
    connection = _sqlite_connection(given)
    rows, texts = connection.row_factory, connection.text_factory
    connection.row_factory, connection.text_factory = None, str
    try:
        _check_file(connection, path)
        if not connection.in_transaction:
            _begin(connection)
        with _savepoint(connection):
            yield Joined(connection)
    finally:
        connection.row_factory, connection.text_factory = rows, texts


def _sqlite_connection(given: object) -> sqlite3.Connection:
    if isinstance(given, sqlite3.Connection):
        return given
    kind = type(given)
    raise CapabilityError(
        "sqlite:// joins the transaction of a sqlite3.Connection, or of a SQLAlchemy session or "
        f"connection on one, not of a {kind.__module__}.{kind.__qualname__}"
    )


def _check_file(connection: sqlite3.Connection, path: Path) -> None:
    (file,) = connection.execute(_FIND_FILE).fetchone()
    if not file or not os.path.samefile(file, path):  # noqa: PTH121 - either may be relative
        raise CapabilityError(
            f"the connection is open on {file or 'a database in memory'}, and records are kept in "
            f"{path}: only a transaction on that file can publish"
        )


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Generator[None]:
    connection.execute("SAVEPOINT brokerq")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # SQLite itself gives it up when the disk is full, for one
            connection.execute("ROLLBACK TO brokerq")
            connection.execute("RELEASE brokerq")
        raise
    connection.execute("RELEASE brokerq")


def _begin(connection: sqlite3.Connection) -> None:
    """Begin a transaction where a write of the program's would have begun one, too."""
    commits_each: object = getattr(connection, "autocommit", None)  # from Python 3.12 on
    if connection.isolation_level is None or commits_each is True:
        raise RefusedError(
            "no transaction is open on the connection, and it commits every statement by itself: "
            "begin one first, else publish without connection="
        )
    connection.execute("BEGIN IMMEDIATE")
