"""The memory broker keeps the contract; in real time too, where that makes a difference."""

import asyncio
from datetime import timedelta

import pytest
from brokerq_memory.broker import MemoryBroker
from brokerq_memory.clock import VirtualClock
from brokerq_memory.state import MemoryState

from brokerq.clock import SystemClock
from brokerq.testing import BrokerContract, BrokerHarness
from brokerq.testing.broker_delay import DelayCases
from brokerq.testing.broker_delivery import DeliveryCases
from brokerq.testing.broker_lease import LeaseCases


class TestMemory(BrokerContract):
    @pytest.fixture
    def harness(self) -> BrokerHarness:
        clock = VirtualClock()
        state = MemoryState(clock)

        async def pass_time(duration: timedelta) -> None:
            clock.advance(duration)
            # Whoever was woken looks, may wake the next, and returns: a few turns of the loop.
            for _ in range(10):
                await asyncio.sleep(0)

        return BrokerHarness(
            make=lambda prefix: MemoryBroker(prefix=prefix, state=state),
            clock=clock,
            pass_time=pass_time,
            lease=timedelta(seconds=30),
            tolerance=timedelta(seconds=1),
        )


class TestMemoryInRealTime(DelayCases, LeaseCases, DeliveryCases):
    """The cases in which something becomes due: then a timer must do what the clock did."""

    @pytest.fixture
    def harness(self) -> BrokerHarness:
        clock = SystemClock()
        state = MemoryState(clock)

        async def pass_time(duration: timedelta) -> None:
            await asyncio.sleep(duration.total_seconds())

        return BrokerHarness(
            make=lambda prefix: MemoryBroker(prefix=prefix, state=state),
            clock=clock,
            pass_time=pass_time,
            lease=timedelta(seconds=0.4),
            tolerance=timedelta(seconds=0.1),
        )
