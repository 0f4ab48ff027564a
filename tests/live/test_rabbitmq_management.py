"""The management API tells what AMQP does not, and never another number when it cannot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from random import Random
from uuid import uuid4

import pytest
import pytest_asyncio
from brokerq_rabbitmq.broker import RabbitBroker
from brokerq_rabbitmq.client import Link
from brokerq_rabbitmq.options import Options, read_options
from brokerq_rabbitmq.topology import Names

from brokerq.broker import Ack, Lane, Outgoing, QueueSpec, QueueStats
from brokerq.clock import SystemClock
from brokerq.errors import BrokerqError, ConfigurationError, ConnectionLostError
from brokerq.message import Message
from brokerq.url import Url
from tests.services.ports import free_port
from tests.services.rabbitmq import Node, own_node

pytestmark = pytest.mark.timeout(240)  # a node may take long to start on a busy machine

LEVELS = ("high", "normal")
SPEC = QueueSpec(name="mail", levels=LEVELS)
HIGH, NORMAL = (Lane(queue="mail", level=level) for level in LEVELS)
TICK = "200"
"""Milliseconds; 5 s by default are the age of what the API tells."""
PATIENCE = 20.0


@pytest.fixture(scope="module")
def node() -> Generator[Node]:
    with own_node({"quorum_tick_interval": TICK}, managed=True) as node:
        node.ctl("add_vhost", "other")
        node.ctl("add_user", "plain", "secret")
        yield node


@pytest.fixture
def names() -> Names:
    return Names(f"bqt{uuid4().hex[:12]}")


def options(node: Node, management: str | None) -> Options:
    asked = "" if management is None else f"?management={management}"
    own = read_options(Url.parse(node.url + asked))
    return replace(own, settling_in=timedelta(0))


@asynccontextmanager
async def opened(own: Options, names: Names) -> AsyncGenerator[RabbitBroker]:
    broker = RabbitBroker(own, prefix=names.prefix, clock=SystemClock(), random=Random(1))
    await broker.open()
    try:
        yield broker
    finally:
        await broker.close()


@pytest_asyncio.fixture
async def broker(node: Node, names: Names) -> AsyncGenerator[RabbitBroker]:
    async with opened(options(node, node.management), names) as broker:
        await broker.declare([SPEC])
        yield broker


def outgoing(number: int, lane: Lane) -> Outgoing:
    message = Message(headers={"bq-id": f"job-{number}"}, body=b"%d" % number)
    return Outgoing(lane=lane, message=message, id=f"job-{number}")


async def look(broker: RabbitBroker) -> QueueStats:
    [stats] = await broker.stats(["mail"])
    return stats


async def shows(broker: RabbitBroker, *, ready: int, in_flight: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            stats = await look(broker)
            if (stats.ready, stats.in_flight) == (ready, in_flight):
                return
            await asyncio.sleep(0.05)


async def test_what_others_than_workers_hold_is_in_flight(
    node: Node, names: Names, broker: RabbitBroker
) -> None:
    await broker.publish([outgoing(0, HIGH), outgoing(1, NORMAL), outgoing(2, NORMAL)])
    own = options(node, None)
    link = await Link.open(own.addresses[0], own, name="somebody")
    channel = await link.channel()
    for level in LEVELS:
        await channel.get(names.lane("mail", level))
    await shows(broker, ready=1, in_flight=2)
    async with opened(own, names) as without:
        assert (await look(without)).in_flight == 0
    await link.close()
    await shows(broker, ready=3, in_flight=0)


async def test_what_a_worker_has_just_taken_counts_at_once(broker: RabbitBroker) -> None:
    await broker.publish([outgoing(n, HIGH) for n in range(3)])
    async with broker.consume(HIGH, prefetch=3) as consumer:
        held = await consumer.receive(1)
        assert (await look(broker)).in_flight >= len(held)
        await shows(broker, ready=3 - len(held), in_flight=len(held))
        await consumer.settle([(each, Ack()) for each in held])
    await shows(broker, ready=3 - len(held), in_flight=0)


@pytest.mark.parametrize(
    ("management", "error", "sentence"),
    [
        ("http://guest:wrong@{api}", ConfigurationError, r"let user 'guest' in \(401\)"),
        ("http://plain:secret@{api}", ConfigurationError, "user 'plain' in .*'management'"),
        ("http://plain:secret@{api}/nothing", ConfigurationError, "not the management API|no virt"),
        ("http://plain:secret@{nobody}", ConnectionLostError, "is the plugin .* enabled"),
        ("http://plain:secret@{broker}", ConnectionLostError, "cannot be reached"),
        ("https://plain:secret@{api}", ConnectionLostError, "cannot be reached"),
    ],
    ids=["password", "no tag", "elsewhere", "no plugin", "no HTTP", "no TLS"],
)
async def test_an_api_that_does_not_tell_is_an_error_of_the_call_alone(
    node: Node, names: Names, management: str, error: type[BrokerqError], sentence: str
) -> None:
    """Jobs are published and run all the same."""
    where = management.format(
        api=node.management.partition("@")[2],
        nobody=f"127.0.0.1:{free_port()}",
        broker=f"127.0.0.1:{node.port}",
    )
    async with opened(options(node, where), names) as broker:
        await broker.declare([SPEC])
        await broker.publish([outgoing(0, HIGH)])
        with pytest.raises(error, match=sentence) as raised:
            await broker.stats(["mail"])
        assert "secret" not in str(raised.value)
        async with broker.consume(HIGH, prefetch=1) as consumer:
            [delivery] = await consumer.receive(1)
            assert await consumer.settle([(delivery, Ack())]) == [True]


async def test_an_outage_is_logged_once(
    node: Node, names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    management = f"http://guest:guest@127.0.0.1:{free_port()}"
    async with opened(options(node, management), names) as broker:
        await broker.declare([SPEC])
        caplog.clear()
        with caplog.at_level(logging.WARNING, "brokerq.rabbitmq"):
            for _ in range(2):
                with pytest.raises(ConnectionLostError):
                    await broker.stats(["mail"])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
