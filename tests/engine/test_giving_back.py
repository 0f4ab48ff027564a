"""How often one message is given back: some brokers count it, and give up after so many."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from brokerq import BrokerQ, Limits, State
from brokerq.broker import Release
from brokerq.engine import intake
from tests.engine.conftest import NarrowPlace, Outage, eventually, in_ms, working

WAIT = timedelta(seconds=1)
SHORTEST = in_ms(5)
LONGEST = in_ms(200)
QUICK = 200
SLOW = 30
LEASE = in_ms(1500)
"""What waits is looked at after each third of it, in which a busy machine may lose a lot."""
MOST = 15
"""Waits of 5, 5, 10, 20, 40, 80, 160 and 200 ms make it 10; some are longer, none is shorter."""


@pytest.fixture
def place(narrow: NarrowPlace, monkeypatch: pytest.MonkeyPatch) -> NarrowPlace:
    for name in ("UNKNOWN_PAUSE", "OUTAGE_PAUSE"):
        monkeypatch.setattr(intake, name, SHORTEST)
        monkeypatch.setattr(intake, f"LONGEST_{name}", LONGEST)
    return narrow


def releases(place: NarrowPlace, job_id: str) -> int:
    """Return how often the job's message was given back."""
    verdicts = [verdict for id_, verdict in place.how.settled if id_ == job_id]
    return sum(isinstance(verdict, Release) for verdict in verdicts)


@pytest.mark.parametrize("store_url", [None, "none://"])
async def test_a_job_that_no_worker_knows(place: NarrowPlace, store_url: str | None) -> None:
    bq = place.app(store_url=store_url, limits=Limits(unknown_wait=WAIT))
    bq.queue("default")

    handle = await bq.publish("unknown", {}, queue="default")
    report = await bq.run_worker(burst=True)

    assert report.outcomes["dead"] == 1
    assert 5 <= releases(place, handle.id) <= MOST


@pytest.mark.parametrize("busy_with_others", [False, True])
async def test_a_store_that_is_away(
    place: NarrowPlace, outage: Outage, monkeypatch: pytest.MonkeyPatch, *, busy_with_others: bool
) -> None:
    monkeypatch.setattr(intake, "OUTAGE_PAUSE", SHORTEST)
    bq = place.app()

    @bq.job()
    async def patient() -> str:
        return "done"

    @bq.job(on_store_error="run")
    async def urgent() -> None: ...

    handle = await patient.publish()
    many = [await urgent.publish() for _ in range(100)] if busy_with_others else []
    outage.on = True
    async with working(bq, concurrency=1):
        await asyncio.sleep(WAIT.total_seconds())
        waited = time.monotonic()
        await eventually(lambda: releases(place, handle.id) >= 5)  # a busy machine takes longer,
        more = (time.monotonic() - waited) / LONGEST.total_seconds()  # and then it may be more
        outage.on = False
        assert await handle.result("30s") == "done"
        for each in many:
            await each.wait("30s")
    assert 5 <= releases(place, handle.id) <= MOST + more


async def test_a_queue_that_is_paused(place: NarrowPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read ahead goes back once; then nothing is read."""
    monkeypatch.setattr("brokerq.engine.upkeep.PAUSE_INTERVAL", 0.01)
    bq = place.app()
    gate = asyncio.Event()

    @bq.job()
    async def work() -> None:
        await gate.wait()

    handles = [await work.publish() for _ in range(5)]
    async with working(bq, concurrency=1):
        await eventually(lambda: _runs(place, 1))
        await bq.queues.pause("default", by="the test")
        await asyncio.sleep(0.2)
        assert max(releases(place, handle.id) for handle in handles) <= 1
        await bq.queues.resume("default")
        gate.set()
        for handle in handles:
            assert (await handle.wait("30s")).state == State.SUCCEEDED
    assert max(releases(place, handle.id) for handle in handles) <= 1


async def test_what_was_read_ahead_of_slots_that_then_stand_still(place: NarrowPlace) -> None:
    """It goes back, for workers that have time: once, and what was claimed early once before."""
    gate = asyncio.Event()
    ran: list[int] = []
    apps = [place.app(), place.app()]
    for bq in apps:
        bq.queue("default", lease=LEASE)

        @bq.job()
        async def work(number: int) -> None:
            if number == QUICK:
                await gate.wait()
            ran.append(number)

    bq, other = apps
    handles = [await bq.publish("work", {"number": number}) for number in range(QUICK + 51)]
    slow, *behind = handles[QUICK:]
    async with working(bq, concurrency=1):
        await eventually(lambda: len(ran) == QUICK)
        async with working(other, concurrency=1):
            for handle in behind:
                assert (await handle.wait("30s")).state == State.SUCCEEDED
        assert (await slow.status()).state == State.RUNNING
        gate.set()
        assert (await slow.wait("30s")).state == State.SUCCEEDED
    assert sorted(ran) == list(range(QUICK + 51))
    assert max(releases(place, handle.id) for handle in behind) <= 2


async def test_what_was_read_ahead_of_slots_that_then_are_slow(place: NarrowPlace) -> None:
    """A slot comes free now and then; what it cannot take soon is for the second worker."""
    first, second = programs = [place.app(), place.app()]
    ran: list[list[int]] = [[], []]
    for bq, its in zip(programs, ran, strict=True):
        bq.queue("default", lease=LEASE)
        _add_work(bq, its)
    handles = [await first.publish("work", {"number": number}) for number in range(QUICK + SLOW)]
    async with working(first, concurrency=1):
        await eventually(lambda: len(ran[0]) == QUICK)
        async with working(second, concurrency=10):
            for handle in handles:
                assert (await handle.wait("10s")).state == State.SUCCEEDED
    assert sorted(ran[0] + ran[1]) == list(range(QUICK + SLOW))
    assert len(ran[1]) > SLOW / 2


def _add_work(bq: BrokerQ, ran: list[int]) -> None:
    @bq.job()
    async def work(number: int) -> None:
        if number >= QUICK:
            await asyncio.sleep(0.3)
        ran.append(number)


async def _runs(place: NarrowPlace, count: int) -> bool:
    broker = await place.broker()
    [stats] = await broker.stats(["default"])
    return stats.in_flight >= count
