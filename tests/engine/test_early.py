"""Jobs that are claimed some milliseconds before a slot is free for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import pytest
from brokerq_memory import MemoryStore
from brokerq_sqlite import SqliteStore

from brokerq import BrokerQ, JobHandle, JobView, State
from brokerq.broker import Delivery, Lane, Release
from brokerq.engine import slots
from brokerq.message import Message
from brokerq.record import ClaimAnswer
from brokerq.store import Claim
from tests.engine.conftest import ONCE, SHORT_LEASE, Place, eventually, working

QUICK = 60
"""Jobs of a millisecond, after which the worker knows its pace."""
SLOW = 6

loud: ContextVar[bool] = ContextVar("loud", default=False)


@pytest.fixture(autouse=True)
def all_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a worker that knows its pace claim as early as it ever may."""
    monkeypatch.setattr(slots, "EARLY", 1e9)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it never find that it was too early."""
    monkeypatch.setattr(slots, "STALLED", 60.0)


class Program:
    """Quick jobs, and slow ones that hold their slots until they may end."""

    def __init__(self, bq: BrokerQ) -> None:
        self.bq = bq
        self.ran: list[int] = []
        self.gate = asyncio.Event()

        @bq.job()
        async def work(number: int) -> None:
            self.ran.append(number)
            if number < QUICK:
                await asyncio.sleep(0.001)
            else:
                await self.gate.wait()

        self.work = work

    async def publish(self) -> list[JobHandle[None]]:
        """Publish all; return the slow ones."""
        many = await self.work.publish_many(
            self.work.arguments(number) for number in range(QUICK + SLOW)
        )
        return many[QUICK:]

    @property
    def slow_ones(self) -> list[int]:
        return [number for number in self.ran if number >= QUICK]


async def states(handles: Sequence[JobHandle[None]]) -> list[State]:
    return [(await handle.status()).state for handle in handles]


def claims(view: JobView) -> int:
    return sum(step.state is State.RUNNING for step in view.history)


async def test_what_has_no_slot_after_all_waits_unclaimed_again(place: Place) -> None:
    program = Program(place.app())
    handles = await program.publish()
    async with working(program.bq, concurrency=2):
        await eventually(lambda: len(program.slow_ones) == 2)
        assert await states(handles) == [State.RUNNING] * SLOW

        async def given_back() -> bool:
            return await states(handles) == [State.RUNNING] * 2 + [State.QUEUED] * (SLOW - 2)

        await eventually(given_back)
        program.gate.set()
        views = [await handle.wait("30s") for handle in handles]
    assert {view.state for view in views} == {State.SUCCEEDED}
    assert {(view.attempts, view.crashes) for view in views} == {(1, 0)}
    assert [claims(view) for view in views] == [1, 1] + [2] * (SLOW - 2)
    assert sorted(program.ran) == list(range(QUICK + SLOW))


async def test_a_worker_that_stops_gives_back_what_has_not_begun(
    place: Place, patient: None
) -> None:
    program = Program(place.app())
    handles = await program.publish()
    stop = asyncio.Event()
    worker = asyncio.create_task(program.bq.run_worker(concurrency=1, grace="5s", stop=stop))
    await eventually(lambda: len(program.slow_ones) == 1)
    assert await states(handles) == [State.RUNNING] * SLOW
    stop.set()

    async def given_back() -> bool:
        return await states(handles) == [State.RUNNING] + [State.QUEUED] * (SLOW - 1)

    await eventually(given_back)
    program.gate.set()
    report = await worker
    assert report.abandoned == 0
    assert len(program.slow_ones) == 1
    await program.bq.run_worker(burst=True)
    views = [await handle.wait("30s") for handle in handles]
    assert {(view.state, view.attempts) for view in views} == {(State.SUCCEEDED, 1)}


@pytest.mark.parametrize("threads", [False, True])
async def test_never_do_more_run_than_there_are_slots(bq: BrokerQ, *, threads: bool) -> None:
    running, most = set[int](), [0]

    def note(number: int) -> None:
        running.add(number)
        most.append(len(running))

    @bq.job()
    async def coroutine(number: int) -> None:
        note(number)
        await asyncio.sleep(0.0005)
        running.remove(number)

    @bq.job()
    def thread(number: int) -> None:
        note(number)
        running.remove(number)

    work = thread if threads else coroutine
    await work.publish_many(work.arguments(number) for number in range(300))
    report = await bq.run_worker(concurrency=3, burst=True)
    assert report.outcomes["succeeded"] == 300
    assert max(most) <= 3


async def test_none_begins_with_what_another_left_in_its_context(bq: BrokerQ) -> None:
    seen: list[bool] = []

    @bq.job()
    async def shout(number: int) -> None:
        seen.append(loud.get())
        loud.set(True)
        if number % 2:
            await asyncio.sleep(0.0005)

    await shout.publish_many(shout.arguments(number) for number in range(200))
    await bq.run_worker(concurrency=1, burst=True)
    assert seen == [False] * 200


async def test_as_many_begin_as_may_though_some_were_given_back(
    bq: BrokerQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "STALLED", 0.005)
    ran: list[int] = []

    @bq.job()
    async def work(number: int) -> None:
        ran.append(number)
        await asyncio.sleep(0.001 if number < QUICK else 0.1)

    await work.publish_many(work.arguments(number) for number in range(QUICK + SLOW))
    report = await bq.run_worker(concurrency=1, max_jobs=QUICK + 3)
    assert len(ran) == QUICK + 3
    assert report.outcomes["succeeded"] == QUICK + 3
    assert report.outcomes["queued"] > 0


@pytest.fixture
def claimed(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Claim]]:
    """Return the batches of claims that the store is asked for."""
    store = MemoryStore if place.url.startswith("memory") else SqliteStore
    batches: list[Sequence[Claim]] = []
    claim = store.claim

    async def noted(self: Any, claims: Sequence[Claim]) -> Sequence[ClaimAnswer]:
        batches.append(claims)
        return await claim(self, claims)

    monkeypatch.setattr(store, "claim", noted)
    return batches


async def test_what_begins_at_once_is_not_claimed_as_early(
    place: Place, claimed: list[Sequence[Claim]]
) -> None:
    program = Program(place.app())
    program.gate.set()
    await program.publish()
    await program.bq.run_worker(concurrency=3, burst=True)
    firsts = [[each.early for each in batch[:3]] for batch in claimed]
    later = [each.early for batch in claimed for each in batch[3:]]
    assert firsts[0] == [False] * 3
    assert not any(batch[0] for batch in firsts)
    assert later
    assert all(later)


async def test_what_was_delivered_before_is_never_claimed_early(
    place: Place, claimed: list[Sequence[Claim]]
) -> None:
    """It may have been lost with a worker, which then has to be blamed on it."""
    program = Program(place.app())
    program.gate.set()
    await program.publish()
    broker = place.backends().broker
    await broker.open()
    async with broker.consume(Lane(queue="default"), prefetch=100) as consumer:
        deliveries = await consumer.receive(100)
        assert len(deliveries) == QUICK + SLOW
        await consumer.settle([(delivery, Release()) for delivery in deliveries])
    await broker.close()
    await program.bq.run_worker(concurrency=3, burst=True)
    assert sorted(program.ran) == list(range(QUICK + SLOW))
    assert not any(each.early for batch in claimed for each in batch)


async def test_one_that_is_cancelled_before_it_begins_never_does(
    place: Place, patient: None
) -> None:
    bq = place.app(retry=ONCE)
    bq.queue("default", lease=SHORT_LEASE)
    program = Program(bq)
    handles = await program.publish()
    async with working(bq, concurrency=1):
        await eventually(lambda: len(program.slow_ones) == 1)
        await handles[-1].cancel()
        await handles[0].cancel()
        await handles[0].wait("30s")  # the worker was told of the other one, too
        program.gate.set()
        views = [await handle.wait("30s") for handle in handles]
    ended = [State.CANCELLED, *[State.SUCCEEDED] * (SLOW - 2), State.CANCELLED]
    assert [view.state for view in views] == ended
    assert QUICK + SLOW - 1 not in program.ran


@pytest.mark.parametrize(
    ("count", "headers", "is_early"),
    [(1, {}, True), (2, {}, False), (None, {}, False), (1, {"bq-crashes": "1"}, False)],
)
def test_what_may_have_lost_a_worker_is_not_claimed_early(
    count: int | None, headers: dict[str, str], *, is_early: bool
) -> None:
    """Neither what was delivered before, nor a copy of it; brokers count copies anew."""
    suspect = Delivery(
        message=Message(headers=headers, body=b"{}"),
        lane=Lane(queue="default"),
        id="job",
        token=None,
        count=count,
        in_place=timedelta(0),
    )
    assert slots.is_new(suspect) is is_early
