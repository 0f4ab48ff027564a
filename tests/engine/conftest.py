"""The engine is tested with real brokers and stores: every test here runs on each of them."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from brokerq_memory import MemoryBroker, MemoryStore
from brokerq_sqlite import SqliteStore

from brokerq import BrokerQ, Letter, LetterFilter, Limits, Report, RetryPolicy
from brokerq.broker import Lane, Outgoing
from brokerq.clock import SystemClock
from brokerq.connect import Backends, open_backends
from brokerq.engine import intake, slots
from brokerq.engine import worker as worker_module
from brokerq.errors import StoreUnavailableError
from brokerq.message import Message
from tests.narrow import NarrowBroker, Narrowness

APP = "shop"
AT_ONCE = RetryPolicy(max_attempts=3, initial="5ms", jitter="none")
ONCE = RetryPolicy(max_attempts=1)
SHORT_LEASE = "300ms"


async def eventually(
    predicate: Callable[[], bool | Awaitable[bool]], *, within: float = 30.0
) -> None:
    """Return as soon as the predicate holds; fail if it does not within so many seconds."""
    deadline = time.monotonic() + within
    while True:
        answer = predicate()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert time.monotonic() < deadline, f"not within {within} s: {inspect.getsource(predicate)}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def working(
    bq: BrokerQ,
    queues: Mapping[str, int] | None = None,
    *,
    concurrency: int = 10,
    grace: str = "5s",
    strict: bool = False,
) -> AsyncGenerator[asyncio.Task[Report]]:
    """Run a worker within the block; it is stopped when the block is left."""
    stop = asyncio.Event()
    task = asyncio.create_task(
        bq.run_worker(queues, concurrency=concurrency, grace=grace, strict=strict, stop=stop)
    )
    try:
        yield task
    finally:
        stop.set()
        await task


async def letters_of(bq: BrokerQ) -> list[Letter]:
    """Return the open dead letters."""
    return list(await bq.dead_letters.search(LetterFilter(), limit=1000))


@dataclass(slots=True)
class Place:
    """One broker and store, and the apps that a test opens on it."""

    url: str
    opened: list[BrokerQ] = field(default_factory=list[BrokerQ])

    def app(
        self,
        name: str = APP,
        *,
        store_url: str | None = None,
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
    ) -> BrokerQ:
        """Return a new app; on memory and SQLite alike, apps of one name share everything."""
        bq = BrokerQ(
            name, url=self.url, store_url=store_url, limits=limits, retry=retry, random=Random(7)
        )
        self.opened.append(bq)
        return bq

    def backends(self, app: str = APP) -> Backends:
        """Return broker and store as another program would see them; not open."""
        return open_backends(self.url, None, app=app, clock=SystemClock(), cwd=Path.cwd())

    async def send(
        self, body: bytes, *, queue: str = "default", message_id: str = "", **headers: str
    ) -> str:
        """Send a message as a program in another language would; return its id in the broker."""
        broker = self.backends().broker
        message_id = message_id or str(uuid4())
        message = Message(
            headers={name.replace("_", "-"): text for name, text in headers.items()}, body=body
        )
        await broker.open()
        await broker.publish([Outgoing(lane=Lane(queue=queue), message=message, id=message_id)])
        await broker.close()
        return message_id


@pytest.fixture(autouse=True)
def quick_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have bursts notice sooner that nothing is left."""
    monkeypatch.setattr(worker_module, "IDLE_CHECK", 0.01)


@pytest.fixture(params=["memory", "sqlite"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    is_memory = request.param == "memory"
    place = Place(f"memory://{uuid4()}" if is_memory else f"sqlite:///{tmp_path}/jobs.db")
    yield place
    for bq in place.opened:
        await bq.close()


@pytest.fixture
async def bq(place: Place) -> BrokerQ:
    """One app, retrying at once; it is opened by its first use and closed after the test."""
    return place.app(retry=AT_ONCE)


@dataclass(slots=True)
class NarrowPlace(Place):
    """A place in memory whose broker can do less; set `how` before an app is opened."""

    how: Narrowness = field(default_factory=Narrowness)

    async def broker(self) -> NarrowBroker:
        """Return the broker as the app sees it, opened."""
        inner = self.backends().broker
        assert isinstance(inner, MemoryBroker)
        broker = NarrowBroker(inner, self.how)
        await broker.open()
        return broker


@pytest.fixture
async def narrow(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NarrowPlace]:
    place = NarrowPlace(f"memory://{uuid4()}")

    def opened(*args: Any, **kwargs: Any) -> Backends:
        backends = open_backends(*args, **kwargs)
        assert isinstance(backends.broker, MemoryBroker)
        return replace(backends, broker=NarrowBroker(backends.broker, place.how))

    monkeypatch.setattr("brokerq.session.open_backends", opened)
    yield place
    for bq in place.opened:
        await bq.close()


@dataclass(slots=True)
class Outage:
    """While `on`, the store cannot be reached; what is colocated with the broker still can."""

    on: bool = False
    refused: int = 0


@pytest.fixture
def outage(place: Place, monkeypatch: pytest.MonkeyPatch) -> Outage:
    store = MemoryStore if place.url.startswith("memory") else SqliteStore
    outage = Outage()
    monkeypatch.setattr(slots, "OUTAGE_BACKOFF", 0.02)
    monkeypatch.setattr(intake, "OUTAGE_PAUSE", in_ms(20))
    for name in ("claim", "renew", "finish", "enqueue", "get"):
        monkeypatch.setattr(store, name, _gated(getattr(store, name), outage))
    return outage


def _gated(
    method: Callable[..., Awaitable[object]], outage: Outage
) -> Callable[..., Awaitable[object]]:
    async def call(*args: object, **kwargs: object) -> object:
        if outage.on:
            outage.refused += 1
            raise StoreUnavailableError("the store is away")
        return await method(*args, **kwargs)

    return call


def in_ms(count: int) -> timedelta:
    """Return so many milliseconds."""
    return timedelta(milliseconds=count)
