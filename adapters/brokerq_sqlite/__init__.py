"""The SQLite adapter: a durable broker and store in one file."""

from __future__ import annotations

from pathlib import Path

from brokerq.adapter import Backend
from brokerq.clock import Clock
from brokerq.duration import to_timedelta
from brokerq.errors import ConfigurationError
from brokerq.url import Url
from brokerq_sqlite.boot import boot_id
from brokerq_sqlite.broker import SqliteBroker
from brokerq_sqlite.database import Database
from brokerq_sqlite.session import Options
from brokerq_sqlite.store import SqliteStore

__all__ = ["SqliteBroker", "adapter", "connect"]

_LOCK_TIMEOUT = "10s"


def adapter(url: Url, *, prefix: str, clock: Clock) -> Backend:
    """Make broker and store on one file; see `brokerq.adapter.Factory`."""
    return connect(read_options(url), prefix=prefix, clock=clock)


def connect(options: Options, *, prefix: str, clock: Clock) -> Backend:
    """Make broker and store on the file that the options name."""
    database = Database(options, prefix=prefix, clock=clock)
    return Backend(broker=SqliteBroker(database), store=SqliteStore(database))


def read_options(url: Url) -> Options:
    """Return what the URL says. Raises `ConfigurationError`."""
    url.refuse_unknown({"lock_timeout"})
    hint = "write sqlite:///jobs.db for a file in this directory, sqlite:////path/jobs.db elsewhere"
    if url.host:
        raise ConfigurationError(f"{url} names a host, but SQLite has only files: {hint}")
    name = url.path.removeprefix("/")
    if not name or name.endswith("/"):
        raise ConfigurationError(f"{url} names no file: {hint}")
    timeout = to_timedelta(url.query.get("lock_timeout", _LOCK_TIMEOUT), what="lock_timeout")
    return Options(path=Path(name).absolute(), lock_timeout=timeout.total_seconds(), boot=boot_id)
