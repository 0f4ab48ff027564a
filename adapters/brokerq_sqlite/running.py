"""What a process wrote of the jobs that it runs, so that it need not read it back at their end."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from brokerq.records import Record

_MOST = 4_096
"""A worker holds a few hundred jobs; more than these are of jobs that it has lost."""

_DATA_VERSION = "PRAGMA data_version"


class Running:
    """The records of claimed jobs as one connection has committed them.

    They hold while nobody else writes to the file, which SQLite tells; and each is only given
    once, for whoever asks for it may be about to change it.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._version = 0
        self._records: dict[str, Record] = {}

    def __bool__(self) -> bool:
        return bool(self._records)

    def check(self) -> None:
        """Forget what may have changed; once in each transaction that asks, before it asks."""
        (version,) = self._db.execute(_DATA_VERSION).fetchone()
        if version != self._version:
            self._version = version
            self._records.clear()

    def take(self, job_id: str) -> Record | None:
        """Return the record, once."""
        return self._records.pop(job_id, None)

    def keep(self, records: Mapping[str, Record]) -> None:
        """Add what was committed; `check` was called in that transaction."""
        if len(self._records) + len(records) > _MOST:
            self._records.clear()
        self._records.update(records)
