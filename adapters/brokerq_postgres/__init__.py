"""The PostgreSQL adapter: a durable broker and store in a database, for any number of hosts.

`postgresql://user:password@host/database?schema=brokerq` takes libpq's parameters and
`schema`, `pool_size=10`, `pool_timeout=10s`, `statement_timeout=30s`, `lock_timeout=10s`,
`idle_timeout=1m` (of a transaction), `poll=1s`, and, with a pooler in transaction mode in between,
`pooler=transaction` and `direct=host:port` for the one connection that listens.

| brokerq | here |
| --- | --- |
| app | a row of `apps`, whose number all its rows bear |
| queue, lane | rows of `queues` and `lanes` |
| message, delayed too | a row of `messages`, claimed by lane and tenant in the order (ready, id) |
| confirmed | committed, as durable as the server's `synchronous_commit` |
| delivery, lease | `holder` of the row, and `ready_at`, which is the end of the lease meanwhile |
| acknowledge | the row is deleted |
| retry, release | the same row, due later; a copy replaces headers and body |
| dead letter | the same row with another `state`; the catalogue has its own in `letters` |
| ordering key | only the first row of a key is not held back |
| tenant | claims take the same share of each tenant that has messages, in turn |
| record, key | rows of `jobs`, `payloads` and `keys` |
| fence | the sequence `fences` |
| time | the database's clock, for leases and for what is due |
| outbox | rows of `outbox`, for brokers that are elsewhere |
| wake-up | LISTEN and NOTIFY, and a slow poll |

| capability | here |
| --- | --- |
| max_body | 16 MiB |
| max_delay, in place too | any |
| max_batch | 10,000 |
| lease | 30 s unless the queue says otherwise; a lost one is refused by the row itself |
| ordering | per key, with delays |
| max_levels | any number |
| counting | all deliveries, except what was handed back |
| durability | a crash of the process and of the host |
| publish_in_transaction | of a psycopg 3 connection to the same database, sync or async |
"""

from __future__ import annotations

from brokerq.adapter import Backend
from brokerq.clock import Clock
from brokerq.url import Url
from brokerq_postgres.broker import PostgresBroker
from brokerq_postgres.database import Database
from brokerq_postgres.options import Options, read_options
from brokerq_postgres.store import PostgresStore
from brokerq_postgres.versions import PostgresMigrations

__all__ = ["PostgresBroker", "PostgresStore", "adapter", "connect"]


def adapter(url: Url, *, prefix: str, clock: Clock) -> Backend:
    """Make broker and store in one database; see `brokerq.adapter.Factory`."""
    return connect(read_options(url), prefix=prefix, clock=clock)


def connect(options: Options, *, prefix: str, clock: Clock) -> Backend:
    """Make broker and store in the database that the options name."""
    database = Database(options, prefix=prefix)
    return Backend(
        broker=PostgresBroker(database, clock=clock),
        store=PostgresStore(database),
        migrations=PostgresMigrations(database),
    )
