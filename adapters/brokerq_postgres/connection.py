"""How connections are made ready, and the pool of them."""

from __future__ import annotations

import select
import struct
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.pq import ConnStatus, Format
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from brokerq.errors import StorageError
from brokerq_postgres import migrations
from brokerq_postgres.errors import unreachable
from brokerq_postgres.options import Options

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

_UNPACK = struct.Struct("!q").unpack
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_PREPARE_AFTER = 3


class InstantLoader(Loader):
    """Reads timestamptz as UTC, whatever the session's time zone is."""

    format = Format.BINARY

    def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
        super().__init__(oid, context)
        self._last = 0
        self._instant = _EPOCH

    def load(self, data: Buffer) -> datetime:
        """Return the instant; the same again where it is, as those of a column often are."""
        (micros,) = _UNPACK(data)
        if micros != self._last:
            self._instant = _EPOCH + timedelta(microseconds=micros)
            self._last = micros
        return self._instant


async def prepare(connection: Connection) -> None:
    """Make a new connection ready."""
    connection.adapters.register_loader("timestamptz", InstantLoader)


async def connect(options: Options, conninfo: str) -> Connection:
    """Make one connection outside of the pool. Raises our errors."""
    try:
        connection = await AsyncConnection.connect(
            conninfo, autocommit=True, prepare_threshold=_threshold(options)
        )
    except psycopg.Error as exc:
        raise unreachable(exc, options.place) from exc
    await prepare(connection)
    return connection


def make_pool(options: Options) -> Pool:
    """Return the pool, not yet open."""
    return AsyncConnectionPool(
        options.conninfo,
        kwargs={"autocommit": True, "prepare_threshold": _threshold(options)},
        min_size=min(2, options.pool_size),
        max_size=options.pool_size,
        timeout=options.pool_timeout.total_seconds(),
        configure=prepare,
        open=False,
        name="brokerq",
    )


def has_ended(connection: Connection) -> bool:
    """Tell whether the server has ended an idle connection; without asking it.

    Its farewell, or the end of the stream, has arrived meanwhile and was read by nobody.
    """
    pgconn = connection.pgconn
    arrivals = select.poll()
    try:
        arrivals.register(pgconn.socket, select.POLLIN)
        while arrivals.poll(0):
            pgconn.consume_input()
    except psycopg.Error:
        return True
    return pgconn.status != ConnStatus.OK


def _threshold(options: Options) -> int | None:
    """Behind a pooler each statement may meet another server, which has not prepared it."""
    return None if options.pooled else _PREPARE_AFTER


async def bring_up(options: Options, connection: Connection, *, migrate: bool) -> None:
    """Check the server, and the schema or bring it up to date. Raises `StorageError`."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StorageError(
            f"{options.place} has the encoding {encoding}, brokerq needs UTF8: make a database "
            "with ENCODING 'UTF8'"
        )
    if migrate:
        await migrations.up(connection, options.schema)
    else:
        migrations.refuse_old(await migrations.status(connection, options.schema), options.schema)
