"""Somebody sets the wall clock while jobs run and wait, or hosts do not agree on the time.

What holds: leases are judged by a clock that nobody can set, so none lapses and none lasts longer.
A duration is measured by whoever keeps the job: the broker, and the store for what it records. The
wall clock of neither the client nor the worker makes it longer or shorter. Instants ("at 14:00")
are wall-clock times by their meaning, and so is what a file keeps: set forward, a delayed job or a
retry is due as soon as the host's clock says so; set back, it waits until the clock says so again.
Measured by the clock that the worker reads, nothing runs early.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from brokerq import BrokerQ, Context, JobHandle, RetryPolicy, Snooze, State
from brokerq.broker import QueueSpec
from brokerq.clock import Clock, SystemClock
from brokerq.connect import Backends, open_backends
from brokerq.duration import ZERO
from tests.contract import rabbitmq_place
from tests.failure.jobs import Scribe, build_app
from tests.failure.ledger import Ledger, of, read
from tests.failure.spec import Place
from tests.services import postgres, rabbitmq, sqs

HOUR = timedelta(hours=1)


class SetClock(SystemClock):
    """A clock whose wall time somebody sets."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


class World:
    """Two workers' apps in one process, with one clock."""

    def __init__(self, folder: Path, clock: SetClock) -> None:
        self.clock = clock
        self.path = folder / "ledger.jsonl"
        place = Place(url=f"sqlite:///{folder}/jobs.db", ledger=str(self.path), lease=1.0)
        self.ledger = Ledger(self.path)
        self.apps: list[BrokerQ] = [
            build_app(place, Scribe(ledger=self.ledger), clock=clock) for _ in range(2)
        ]
        self.client = self.apps[0]
        self.stop = asyncio.Event()

    async def begun(self, job_id: str) -> None:
        deadline = time.monotonic() + 10
        while not of(read(self.path), "begin", job_id):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    async def until_tried(self, handle: JobHandle[Any], attempts: int) -> None:
        deadline = time.monotonic() + 10
        while (await handle.status()).attempts < attempts:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Yield two working workers."""
    world = World(tmp_path, SetClock())
    async with world.apps[0], world.apps[1]:
        workers = [asyncio.create_task(app.run_worker(stop=world.stop)) for app in world.apps]
        yield world
        world.stop.set()
        await asyncio.gather(*workers)
    world.ledger.close()


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
async def test_no_lease_lapses_when_the_clock_is_set(world: World, jump: timedelta) -> None:
    handle = await world.client.publish("slow", {"n": 1, "seconds": 1.5})
    await world.begun(handle.id)
    world.clock.ahead = jump
    view = await handle.wait(timeout="10s")
    assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 0)
    assert len(of(read(world.path), "begin", handle.id)) == 1


async def test_what_is_due_later_is_due_when_the_clock_says_so(world: World) -> None:
    delayed = await world.client.publish("quick", {"n": 1}, delay="1h")
    retried = await world.client.publish("delayed_retry", {"n": 2})
    await world.until_tried(retried, 1)
    world.clock.ahead = HOUR + timedelta(seconds=1)
    assert (await delayed.wait(timeout="10s")).state == State.SUCCEEDED
    await world.until_tried(retried, 2)


async def test_a_clock_that_is_set_back_makes_nothing_run_early(world: World) -> None:
    delayed = await world.client.publish("quick", {"n": 1}, delay="1s")
    world.clock.ahead = -HOUR
    at_once = await world.client.publish("quick", {"n": 2})
    assert (await at_once.wait(timeout="10s")).state == State.SUCCEEDED
    await asyncio.sleep(1.2)  # the delay, by a clock that nobody sets
    assert (await delayed.status()).state == State.SCHEDULED
    world.clock.ahead = timedelta(0)
    assert (await delayed.wait(timeout="10s")).state == State.SUCCEEDED


MINUTES = timedelta(minutes=5)
DELAY = 1.0
TOLERANCE = 0.005
"""Seconds by which two ways of reading a clock may differ."""
LATEST = 10.0
"""Seconds: a broker may round up, and a machine be busy; no clock here is that little off."""
URLS = {
    "memory": ("memory://{name}", None),
    "sqlite": ("sqlite:///{folder}/jobs.db", None),
    "postgresql": ("{postgresql}", None),
    "rabbitmq": ("{rabbitmq}", "none://"),
    "rabbitmq, sqlite": ("{rabbitmq}", "sqlite:///{folder}/records.db"),
    "rabbitmq, postgresql": ("{rabbitmq}", "{postgresql}"),
    "sqs": ("{sqs}", "none://"),
    "sqs, sqlite": ("{sqs}", "sqlite:///{folder}/records.db"),
}
WRONG = {
    "client ahead": (MINUTES, ZERO),
    "client behind": (-MINUTES, ZERO),
    "worker ahead": (ZERO, MINUTES),
    "worker behind": (ZERO, -MINUTES),
}
"""By how much the client's clock is ahead, and the worker's."""


class Hosts:
    """A client and a worker with clocks of their own, and when their jobs may begin and did.

    Attributes:
        may_begin: By `time.monotonic()`, the next run of each job.
        late: In seconds, the runs that had to wait, in the order of their beginning.
    """

    def __init__(self, url: str, store_url: str | None, prefix: str) -> None:
        self.may_begin: dict[str, float] = {}
        self.late: defaultdict[str, list[float]] = defaultdict(list)
        self.stop = asyncio.Event()
        self.is_stored = store_url != "none://"
        self.clocks = SetClock(), SetClock()
        self.client, self.worker = (
            BrokerQ("clock", url=url, store_url=store_url, prefix=prefix, clock=clock)
            for clock in self.clocks
        )
        retry = RetryPolicy(backoff="fixed", initial=f"{DELAY}s", jitter="none")

        async def work(ctx: Context, what: str) -> None:
            began = time.monotonic()
            if what in self.may_begin:
                self.late[what].append(began - self.may_begin[what])
            if what != "delayed" and what not in self.may_begin:
                self.expect(what)
                raise Snooze(f"{DELAY}s") if what == "snoozed" else ValueError(ctx.id)
            if len(self.late) == len(("delayed", "snoozed", "retried")):
                self.stop.set()

        for app in (self.client, self.worker):
            app.job(retry=retry)(work)

    def expect(self, what: str) -> None:
        """Note that the job may begin after a delay that is asked for next."""
        self.may_begin[what] = time.monotonic() + DELAY


def open_with_right_clock(*places: Any, clock: Clock, **options: Any) -> Backends:
    """Open brokers and stores, none of which has the clock of the program."""
    del clock
    return open_backends(*places, clock=SystemClock(), **options)


@pytest.fixture(params=URLS)
async def hosts(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Hosts]:
    """Yield two hosts that are open; brokers and stores have right clocks.

    A file, and what is in memory, is on one host, which has one clock: the right one here.
    """
    broker, store = URLS[request.param]
    needed, prefix = f"{broker} {store}", f"clock-{uuid4().hex[:12]}"
    values = {"name": prefix, "folder": str(tmp_path)}
    async with AsyncExitStack() as stack:
        if "{rabbitmq}" in needed:
            values["rabbitmq"] = rabbitmq.standing_url()
            rabbit = await stack.enter_async_context(rabbitmq_place.rabbit_place())
            rabbit.declared.append((prefix, QueueSpec(name="default")))
        if "{postgresql}" in needed:
            values["postgresql"] = stack.enter_context(postgres.own_schema())
        if "{sqs}" in needed:
            values["sqs"] = f"sqs://{sqs.REGION}?endpoint={sqs.ministack()}"
            for variable, value in sqs.CREDENTIALS.items():
                monkeypatch.setenv(variable, value)
        monkeypatch.setattr("brokerq.session.open_backends", open_with_right_clock)
        hosts = Hosts(broker.format_map(values), store and store.format_map(values), prefix)
        async with hosts.client, hosts.worker:
            yield hosts


@pytest.mark.parametrize(("client", "worker"), WRONG.values(), ids=WRONG)
@pytest.mark.timeout(sqs.INSTALLATION)
async def test_a_duration_is_measured_by_whoever_keeps_it(
    hosts: Hosts, client: timedelta, worker: timedelta
) -> None:
    hosts.clocks[0].ahead, hosts.clocks[1].ahead = client, worker
    hosts.expect("delayed")
    handle = await hosts.client.publish("work", {"what": "delayed"}, delay=f"{DELAY}s")
    for what in ("snoozed", "retried"):
        await hosts.client.publish("work", {"what": what})
    async with asyncio.timeout(DELAY + LATEST):
        await hosts.worker.run_worker(stop=hosts.stop)
    assert {what: len(runs) for what, runs in hosts.late.items()} == {
        "delayed": 1,
        "snoozed": 1,
        "retried": 1,
    }
    for [late] in hosts.late.values():
        assert -TOLERANCE <= late < LATEST
    if hosts.is_stored:
        history = [step.state for step in (await handle.status()).history]
        assert history == [State.SCHEDULED, State.RUNNING, State.SUCCEEDED]


@pytest.mark.parametrize("hosts", ["sqlite", "postgresql", "sqs, sqlite"], indirect=True)
@pytest.mark.parametrize("ahead", [MINUTES, -MINUTES], ids=["worker ahead", "worker behind"])
@pytest.mark.timeout(sqs.INSTALLATION)
async def test_with_a_store_a_worker_s_clock_lets_nothing_expire(
    hosts: Hosts, ahead: timedelta
) -> None:
    """Neither before it is begun nor when it has failed; and what is too late stays so."""
    hosts.clocks[1].ahead = ahead
    past = datetime.now(UTC) - timedelta(seconds=1)
    in_time = await hosts.client.publish("work", {"what": "retried"}, deadline="2m")
    too_late = await hosts.client.publish("work", {"what": "snoozed"}, deadline=past)
    await hosts.worker.run_worker(burst=True)
    assert [step.state for step in (await in_time.status()).history] == [
        State.QUEUED,
        State.RUNNING,
        State.RETRYING,
        State.RUNNING,
        State.SUCCEEDED,
    ]
    assert (await too_late.status()).state == State.EXPIRED
