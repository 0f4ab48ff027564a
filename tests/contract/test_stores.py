"""The memory store is held to the contract, on a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from brokerq_memory import MemoryBroker, MemoryState, MemoryStore, VirtualClock

from brokerq.broker import Broker
from brokerq.catalogue import Redrive
from brokerq.records import Claimed, State
from brokerq.store import Claim, Store
from brokerq.testing.store_contract import StoreContract
from brokerq.testing.store_desk import LONG, Desk
from brokerq.testing.store_harness import StoreHarness

APP = "shop"


class MemoryHarness(StoreHarness):
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.state = MemoryState(self.clock)
        self.store: Store = self.make(APP)
        self.broker: Broker | None = MemoryBroker(prefix=APP, state=self.state)
        self.lease = timedelta(seconds=30)

    def make(self, prefix: str) -> MemoryStore:
        return MemoryStore(prefix=prefix, clock=self.clock, state=self.state)

    def now(self) -> datetime:
        return self.clock.now()

    async def pass_time(self, duration: timedelta) -> None:
        self.clock.advance(duration)

    async def another(self, prefix: str | None = None) -> Store:
        store = self.make(APP if prefix is None else prefix)
        await store.open()
        return store


class TestMemoryStore(StoreContract):
    @pytest.fixture
    async def harness(self) -> AsyncIterator[StoreHarness]:
        harness = MemoryHarness()
        await harness.store.open()
        assert harness.broker is not None
        await harness.broker.open()
        yield harness
        await harness.broker.close()
        await harness.store.close()


async def test_a_letter_whose_record_is_gone_is_redriven_from_what_it_says() -> None:
    """No rule lets a record go before its open letter; a store may still have lost it."""
    harness = MemoryHarness()
    await harness.store.open()
    desk = Desk(harness=harness)
    job = desk.job(key="order-1", attempts=2)
    await desk.bury(job)
    harness.state.ledgers[APP].entries.clear()
    redrive = await desk.begin_redrive(job)
    assert isinstance(redrive, Redrive)
    assert (redrive.epoch, redrive.redrives) == (1, 1)
    view = await desk.view(job)
    assert (view.state, view.attempts, view.key) == (State.QUEUED, 0, "order-1")
    assert view.message == job.message


def test_stores_on_several_threads_share_one_place() -> None:
    harness = MemoryHarness()
    desk = Desk(harness=harness)
    jobs = [desk.job(key=f"order-{number}") for number in range(500)]

    async def claim_all(owner: str) -> list[str]:
        store = harness.make(APP)
        await store.open()
        won: list[str] = []
        for job in jobs:
            (answer,) = await store.claim([Claim(job=job, owner=owner, lease=LONG)])
            if isinstance(answer, Claimed):
                won.append(job.head.id)
        return won

    def claim_all_on_a_loop_of_its_own(owner: str) -> list[str]:
        return asyncio.run(claim_all(owner))

    owners = ["ann", "bob", "carl", "dora"]
    with ThreadPoolExecutor(len(owners)) as threads:
        won = list(threads.map(claim_all_on_a_loop_of_its_own, owners))
    assert Counter(id_ for ids in won for id_ in ids) == {job.head.id: 1 for job in jobs}
