"""The service's own book of what was asked of it and what it did. It knows nothing of brokerq."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (key TEXT NOT NULL, status INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS calls_by_key ON calls (key);
CREATE TABLE IF NOT EXISTS effects (key TEXT PRIMARY KEY, body TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """What the ledger says.

    Attributes:
        effects: What was registered, by idempotency key.
        statuses: How many calls were answered with each status; late answers included.
        called: How many calls each key has.
    """

    effects: Mapping[str, str]
    statuses: Mapping[int, int]
    called: Mapping[str, int]

    @property
    def calls(self) -> int:
        """How many calls there were."""
        return sum(self.statuses.values())


class Ledger:
    """The book while it is written; any thread may."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # Readers see every entry at once, and a crash of the host is not what is shown here.
        self._connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;" + _SCHEMA)

    def calls_of(self, key: str) -> int:
        """Return how many calls with that key were entered."""
        with self._lock:
            [count] = self._connection.execute(
                "SELECT count(*) FROM calls WHERE key = ?", (key,)
            ).fetchone()
        return int(count)

    def enter(self, key: str, *, status: int, effect: str | None) -> None:
        """Enter a call, and its effect unless that key has one already."""
        with self._lock:
            self._connection.execute("INSERT INTO calls VALUES (?, ?)", (key, status))
            if effect is not None:
                self._connection.execute(
                    "INSERT OR IGNORE INTO effects VALUES (?, ?)", (key, effect)
                )

    def close(self) -> None:
        """Close the book."""
        with self._lock:
            self._connection.close()


def read_totals(path: Path) -> tuple[int, int]:
    """Return how many calls and how many effects there are, while the service goes on."""
    with closing(_open(path)) as connection:
        [calls] = connection.execute("SELECT count(*) FROM calls").fetchone()
        [effects] = connection.execute("SELECT count(*) FROM effects").fetchone()
    return int(calls), int(effects)


def read_entries(path: Path) -> Entries:
    """Return all that the ledger says."""
    with closing(_open(path)) as connection:
        return Entries(
            effects=dict(connection.execute("SELECT key, body FROM effects")),
            statuses=dict(connection.execute("SELECT status, count(*) FROM calls GROUP BY status")),
            called=dict(connection.execute("SELECT key, count(*) FROM calls GROUP BY key")),
        )


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
