"""The RabbitMQ broker keeps the contract, on a real server and in real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest
import pytest_asyncio
from brokerq_rabbitmq.topology import Names

from brokerq.broker import Lane, Outgoing
from brokerq.clock import SystemClock
from brokerq.testing import BrokerContract, BrokerHarness
from tests.contract.rabbitmq_place import RabbitPlace, rabbit_place


class TestRabbit(BrokerContract):
    @pytest_asyncio.fixture
    async def rabbit(self) -> AsyncGenerator[RabbitPlace]:
        async with rabbit_place() as place:
            yield place

    @pytest.fixture
    def harness(self, rabbit: RabbitPlace) -> BrokerHarness:
        async def pass_time(duration: timedelta) -> None:
            await asyncio.sleep(duration.total_seconds())

        async def foreign(prefix: str, lane: Lane, body: bytes) -> None:
            channel = await rabbit.link.channel(confirms=True)
            queue = Names(prefix).lane(lane.queue, lane.level)
            await channel.publish(exchange="", key=queue, message_id=None, headers={}, body=body)

        async def exhaust(prefix: str, outgoing: Outgoing) -> None:
            await rabbit.exhaust(prefix, outgoing.lane)

        return BrokerHarness(
            make=rabbit.make,
            clock=SystemClock(),
            pass_time=pass_time,
            lease=timedelta(seconds=1),
            tolerance=timedelta(seconds=0.25),
            foreign=foreign,
            exhaust=exhaust,
        )
