"""The memory store is held to the contract, on a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from brokerq_memory import MemoryBroker, MemoryState, MemoryStore, VirtualClock

from brokerq.broker import Broker
from brokerq.store import Store
from brokerq.testing.store_contract import StoreContract
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
