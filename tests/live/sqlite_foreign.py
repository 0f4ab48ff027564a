"""A program that knows SQLite and not brokerq."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from brokerq.broker import Lane


def publish_bare(path: Path, prefix: str, lane: Lane, body: bytes) -> None:
    """Put a body without headers into the lane."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO messages (lane, body)"
            " SELECT lanes.id, ? FROM lanes"
            " JOIN queues ON queues.id = lanes.queue JOIN apps ON apps.id = queues.app"
            " WHERE apps.prefix = ? AND queues.name = ? AND lanes.level = ?",
            (body, prefix, lane.queue, lane.level),
        )
