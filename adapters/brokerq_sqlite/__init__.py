"""The SQLite adapter: a durable broker and store in one file, for the processes of one host.

`sqlite:///jobs.db` is relative to the working directory, `sqlite:////path/jobs.db` absolute;
`lock_timeout=10s` says how long to wait for another process that writes. Beside the file are
SQLite's `-wal` and `-shm`, a `-lock` that processes queue up for, and the directory `-wake` with a
FIFO for each process that waits for messages. The file must be on a local disk. An app may have
tables of its own in it; brokerq's all begin with `brokerq_`, which is left out here.

| brokerq | here |
| --- | --- |
| app | a row of `apps`, whose number all its rows bear |
| queue, lane | rows of `queues` and `lanes` |
| message, delayed too | a row of `messages`, claimed by level in the order (due, id) |
| confirmed | committed, with `synchronous=FULL`: fsync has returned |
| claimed | committed, not synced: after a power cut it was not, unless the lease was renewed |
| delivery, lease | `holder` and `lease_until` of the row, on a clock that begins with the boot |
| acknowledge | the row is deleted; not synced: what is back after a power cut is recorded as done |
| retry, release | the same row, due later; a copy replaces headers and body |
| dead letter | the same row with another `state`; the catalogue has its own in `letters` |
| ordering key | only the first row of a key is not held back |
| record, key | rows of `jobs`, `payloads` and `keys` |
| fence | a counter in `about` |
| outbox | rows of `outbox`, for brokers that are elsewhere |
| transaction | one per group of calls that are queued when the writing thread comes round |

| capability | here |
| --- | --- |
| max_body | 16 MiB |
| max_delay, in place too | any |
| max_batch | 10,000 |
| lease | 30 s unless the queue says otherwise; a lost one is refused by the file itself |
| ordering | per key, with delays |
| max_levels | any number |
| counting | all deliveries, except what was handed back |
| durability | a crash of the process and of the host |
| publish_in_transaction | of a `sqlite3.Connection` on the same file |
"""

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

__all__ = ["SqliteBroker", "SqliteStore", "adapter", "connect"]

_LOCK_TIMEOUT = "10s"


def adapter(url: Url, *, prefix: str, clock: Clock) -> Backend:
    """Make broker and store on one file; see `brokerq.adapter.Factory`."""
    return connect(read_options(url), prefix=prefix, clock=clock)


def connect(options: Options, *, prefix: str, clock: Clock) -> Backend:
    """Make broker and store on the file that the options name."""
    database = Database(options, prefix=prefix, clock=clock)
    return Backend(broker=SqliteBroker(database), store=SqliteStore(database), any_loop=True)


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
