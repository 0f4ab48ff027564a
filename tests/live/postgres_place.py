"""An app in a schema of its own, opened, for tests that look behind the adapter."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import psycopg
from brokerq_postgres import PostgresBroker, PostgresStore, connect
from brokerq_postgres.database import Database
from brokerq_postgres.options import Options, read_options
from brokerq_postgres.queries import Queries

from brokerq.broker import Broker, Lane, Outgoing, QueueSpec
from brokerq.clock import SystemClock
from brokerq.message import Message
from brokerq.url import Url

LANE = Lane(queue="jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Broker and store of one app."""

    options: Options
    broker: PostgresBroker
    store: PostgresStore

    @property
    def database(self) -> Database:
        return self.broker.database

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement as an administrator would, and return its rows.

        `{schema}` in it stands for the schema, `{app}` for the app's number.
        """
        numbered = statement.replace("{app}", str(self.database.app))
        query = Queries(self.options.schema).fill(numbered)
        with psycopg.connect(self.options.conninfo, autocommit=True) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []


@asynccontextmanager
async def open_place(url: str, prefix: str | None = None) -> AsyncGenerator[Place]:
    """Open broker and store, with the queue `jobs`."""
    options = read_options(Url.parse(url))
    backend = connect(options, prefix=prefix or uuid4().hex, clock=SystemClock())
    assert isinstance(backend.broker, PostgresBroker)
    assert isinstance(backend.store, PostgresStore)
    async with AsyncExitStack() as stack:
        await backend.broker.open()
        stack.push_async_callback(backend.broker.close)
        await backend.store.open()
        stack.push_async_callback(backend.store.close)
        await backend.broker.declare([QueueSpec(name=LANE.queue)])
        yield Place(options=options, broker=backend.broker, store=backend.store)


def outgoing(job_id: str, *, tenant: str | None = None, lane: Lane = LANE) -> Outgoing:
    """Return a message."""
    message = Message(headers={"bq-id": job_id, "bq-job": "job"}, body=job_id.encode())
    return Outgoing(lane=lane, message=message, id=job_id, tenant=tenant)


async def take_ids(broker: Broker, limit: int, *, lane: Lane = LANE) -> Sequence[str | None]:
    """Return the ids of what one consumer gets at once; it is given back."""
    async with broker.consume(lane, prefetch=limit) as consumer:
        return [delivery.id for delivery in await consumer.receive(limit)]
