"""The schema's versions, for people who bring it up to date themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import psycopg

from brokerq.migrations import Migrations, Version
from brokerq_postgres import migrations
from brokerq_postgres.connection import Connection, connect
from brokerq_postgres.database import Database
from brokerq_postgres.errors import translate


class PostgresMigrations(Migrations):
    """The versions of one schema in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._schema = database.options.schema

    @property
    def place(self) -> str:
        return self._database.options.place

    @property
    def versions(self) -> Sequence[Version]:
        return [Version(each.version, each.name) for each in migrations.migrations()]

    def script(self, *, since: int) -> str:
        return migrations.script(self._schema, since=since)

    async def applied(self) -> int:
        async with self._connection() as connection:
            found = await migrations.status(connection, self._schema)
        return migrations.check(found, self._schema).version

    async def up(self) -> Sequence[Version]:
        async with self._connection() as connection:
            done = await migrations.up(connection, self._schema)
        return [Version(each.version, each.name) for each in done]

    def leave_alone(self) -> None:
        self._database.migrate = False

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Connection]:
        options = self._database.options
        connection = await connect(options, options.conninfo)
        try:
            yield connection
        except psycopg.Error as exc:
            raise translate(exc, options.place) from exc
        finally:
            await connection.close()
