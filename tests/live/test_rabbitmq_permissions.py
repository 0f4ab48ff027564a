"""Each role can do its work with the rights that are named for it, and nothing beyond."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random

import pytest
from brokerq_rabbitmq.broker import RabbitBroker
from brokerq_rabbitmq.options import read_options
from brokerq_rabbitmq.topology import Names, permissions

from brokerq.broker import Ack, Dead, Lane, Outgoing, QueueSpec, Release, Verdict
from brokerq.clock import SystemClock
from brokerq.errors import BrokerqError
from brokerq.message import Message
from brokerq.url import Url
from tests.services.rabbitmq import Node, own_node

pytestmark = pytest.mark.timeout(240)  # a node may take long to start on a busy machine

PREFIX = "shop"
SPEC = QueueSpec(name="mail", levels=("high", "normal"))
LANE = Lane(queue="mail", level="high")
SOON = timedelta(milliseconds=50)
PATIENCE = 20.0
UNSEEN = {"exchange shop:census", "exchange shop:crashed"}
"""Who has no right to a thing cannot see from 4.3.1 on whether it is there."""


@pytest.fixture
def node() -> Generator[Node]:
    with own_node() as node:
        node.ctl("add_user", "mailer", "secret")
        yield node


@asynccontextmanager
async def acting(node: Node, role: str) -> AsyncGenerator[RabbitBroker]:
    rights = shlex.split(permissions(Names(PREFIX), [SPEC])[role])
    await asyncio.to_thread(node.ctl, "set_permissions", "mailer", *rights)
    options = read_options(Url.parse(node.url.replace("guest:guest", "mailer:secret")))
    broker = RabbitBroker(options, prefix=PREFIX, clock=SystemClock(), random=Random(1))
    await broker.open()
    try:
        async with asyncio.timeout(PATIENCE):
            yield broker
    finally:
        await broker.close()


def outgoing(name: str, delay: timedelta = timedelta(0)) -> Outgoing:
    message = Message(headers={"bq-id": name}, body=name.encode())
    return Outgoing(lane=LANE, message=message, id=name, delay=delay)


async def settle_next(broker: RabbitBroker, *verdicts: Verdict) -> None:
    async with broker.consume(LANE, prefetch=10) as consumer:
        for verdict in verdicts:
            [delivery] = await consumer.receive(1)
            assert await consumer.settle([(delivery, verdict)]) == [True]


async def test_each_role_can_do_its_work_and_a_producer_no_more(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    async with acting(node, "deployer") as broker:
        await broker.declare([SPEC])
    async with acting(node, "producer") as broker:
        await broker.publish([outgoing("one"), outgoing("two"), outgoing("three", SOON)])
        await broker.declare([SPEC], create=False)
        with pytest.raises(BrokerqError, match="403"):
            await settle_next(broker, Ack())
    async with acting(node, "consumer") as broker:
        await broker.declare([SPEC], create=False)
        letter = Message(headers={"bq-id": "one", "bq-dead-reason": "rejected"}, body=b"one")
        await settle_next(broker, Dead(message=letter), Release(delay=SOON), Ack(), Ack())
        [stats] = await broker.stats(["mail"])  # as a burst does
        assert stats.in_flight == 0
        async with broker.salvage("mail", prefetch=10):
            assert await broker.discard("mail", {("none", 0)}) == 0
    async with acting(node, "operator") as broker:
        [stats] = await broker.stats(["mail"])
        assert (stats.ready, stats.delayed, stats.in_flight, stats.dead) == (0, 0, 0, 1)
        assert await broker.purge("mail") == 0
        async with broker.browse("mail") as letters:
            assert [each.body async for each in letters] == [b"one"]
        assert await broker.discard("mail", {("one", 0)}) == 1
    assert "may not compare the queue shop:mail:high, only see that it is there" in caplog.text
    assert set(re.findall(r"the (\w+ \S+), nor see whether it is there", caplog.text)) <= UNSEEN
