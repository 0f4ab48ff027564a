"""The schema's versions: which there are, which one a database has, and bringing it up to date.

Each version is one file in `schema/`. A version is applied in a transaction of its own under an
advisory lock, so that any number of processes may start at once, behind a pooler too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from psycopg import AsyncConnection, sql
from psycopg.rows import TupleRow

from brokerq.errors import StorageError

Connection = AsyncConnection[TupleRow]

_SCRIPT = re.compile(r"(\d{4})_(\w+)\.sql")
_NEEDS = "0.1.0"
"""The oldest brokerq that can use what these versions make; written beside the version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One version of the schema; `text` has `{schema}` for its name."""

    version: int
    name: str
    text: str

    def script(self, schema: str) -> str:
        """Return its SQL for that schema, to be read, or run by hand."""
        return self.text.replace("{schema}", _quoted(schema))


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a database has; `version` is zero where there is nothing yet."""

    version: int
    known: int
    needs: str

    @property
    def pending(self) -> Sequence[Migration]:
        """What is still to be applied, in order."""
        return migrations()[self.version :]


@cache
def migrations() -> Sequence[Migration]:
    """Return all versions, the first one first."""
    found: list[Migration] = []
    for entry in resources.files("brokerq_postgres.schema").iterdir():
        match = _SCRIPT.fullmatch(entry.name)
        if match is not None:
            text = entry.read_text("utf-8")
            found.append(Migration(version=int(match[1]), name=match[2], text=text))
    return sorted(found, key=lambda each: each.version)


def script(schema: str, *, since: int = 0) -> str:
    """Return what comes after that version, as a script that a person can review and run in psql.

    It takes the same lock as `up` does.
    """
    versions = [
        f"-- version {each.version}: {each.name}\n{each.script(schema)}"
        for each in migrations()[since:]
    ]
    name = _lock_name(schema).replace("'", "''")
    lock = f"SELECT pg_advisory_xact_lock(hashtextextended('{name}', 0));"
    begin = ["BEGIN;", lock] if since else ["BEGIN;", lock, _create(schema)]
    return "\n\n".join(["\n".join(begin), *versions, f"{_write(schema)}\nCOMMIT;\n"])


async def status(connection: Connection, schema: str) -> Status:
    """Look what is there."""
    known = len(migrations())
    # A look into the catalogue itself: what is asked for by name may have been remembered as absent
    # while somebody else was making it.
    find = "SELECT FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'about'"
    if not await (await connection.execute(find, (schema,))).fetchall():
        return Status(version=0, known=known, needs=_NEEDS)
    query = sql.SQL("SELECT version, needs FROM {}.about").format(sql.Identifier(schema))
    row = await (await connection.execute(query)).fetchone()
    if row is None:
        return Status(version=0, known=known, needs=_NEEDS)
    return Status(version=row[0], known=known, needs=row[1])


async def up(connection: Connection, schema: str) -> Sequence[Migration]:
    """Apply what is missing; return what that was. Raises `StorageError` for a newer schema."""
    if not check(await status(connection, schema), schema).pending:
        return ()
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("SET LOCAL lock_timeout = 0")
        lock = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
        await connection.execute(lock, (_lock_name(schema),))
        pending = check(await status(connection, schema), schema).pending
        if pending and pending[0].version == 1:
            await connection.execute(_create(schema).encode())
        for each in pending:
            await connection.execute(each.script(schema).encode())
        await connection.execute(_write(schema).encode())
    return pending


def check(found: Status, schema: str) -> Status:
    """Return it unless this brokerq is too old for it. Raises `StorageError`."""
    if found.version > found.known:
        raise StorageError(
            f"the schema {schema!r} has version {found.version} and needs brokerq {found.needs} or "
            f"newer, this one knows version {found.known}: upgrade brokerq here"
        )
    return found


def refuse_old(found: Status, schema: str) -> None:
    """Raise `StorageError` if something is still to be applied, or this brokerq is too old."""
    if check(found, schema).pending:
        there = f"version {found.version}" if found.version else "not there"
        raise StorageError(
            f"the schema {schema!r} is {there}, this brokerq needs version {found.known}: bring it "
            "up to date first, with `brokerq migrate up` and a user who may, or let "
            "BROKERQ_TOPOLOGY=declare do it"
        )


_CREATE = """\
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.about (version integer NOT NULL, needs text NOT NULL);"""

_WRITE = """\
DELETE FROM {schema}.about;
INSERT INTO {schema}.about (version, needs) VALUES ({version}, '{needs}');"""


def _create(schema: str) -> str:
    return _CREATE.replace("{schema}", _quoted(schema))


def _write(schema: str) -> str:
    return _WRITE.format(schema=_quoted(schema), version=len(migrations()), needs=_NEEDS)


def _lock_name(schema: str) -> str:
    return f"brokerq schema {schema}"


def _quoted(schema: str) -> str:
    return '"' + schema.replace('"', '""') + '"'
