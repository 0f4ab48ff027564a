"""The SQS broker keeps the contract, on emulators of different make.

What SQS itself cannot do is stated in `SqsCases`.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from random import Random

import pytest
from brokerq_sqs.broker import SqsBroker
from brokerq_sqs.settings import Settings
from brokerq_sqs.topology import MAX_RECEIVES, queue_name

from brokerq.broker import Ack, Consumer, Dead, Delivery, Lane, Outgoing
from brokerq.clock import SystemClock
from brokerq.testing import BrokerContract, BrokerHarness, FullBroker
from brokerq.testing.broker_cases import Place, letters
from tests.services import sqs

SECOND = timedelta(seconds=1)


def make_harness(endpoint: str, lease: timedelta) -> BrokerHarness:
    """Return a harness whose polls and leases are short; SQS counts in whole seconds."""
    clock = SystemClock()

    def make(prefix: str) -> SqsBroker:
        settings = Settings(
            region=sqs.REGION,
            prefix=prefix,
            endpoint=endpoint,
            wait=timedelta(seconds=1),
            look_every=timedelta(seconds=0.2),
        )
        return SqsBroker(settings, clock=clock, random=Random(1))

    async def pass_time(duration: timedelta) -> None:
        await asyncio.sleep(duration.total_seconds())

    async def foreign(prefix: str, lane: Lane, body: bytes) -> None:
        await asyncio.to_thread(send_bare, endpoint, prefix, lane, body)

    async def exhaust(prefix: str, outgoing: Outgoing) -> None:
        await asyncio.to_thread(give_up, endpoint, prefix, outgoing)

    return BrokerHarness(
        make=make,
        clock=clock,
        pass_time=pass_time,
        lease=lease,
        tolerance=lease / 4,
        foreign=foreign,
        exhaust=exhaust,
    )


def send_bare(endpoint: str, prefix: str, lane: Lane, body: bytes) -> None:
    """Send a body without attributes."""
    client = sqs.raw_client(endpoint)
    name = queue_name(prefix, lane.queue, lane.level, ordered=False)
    url = client.get_queue_url(QueueName=name)["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody=body.decode())
    client.close()


def give_up(endpoint: str, prefix: str, outgoing: Outgoing) -> None:
    """Receive a message that is alone in its queue until SQS has had enough."""
    client = sqs.raw_client(endpoint)
    name = queue_name(prefix, outgoing.lane.queue, outgoing.lane.level, ordered=False)
    url = client.get_queue_url(QueueName=name)["QueueUrl"]
    for _ in range(MAX_RECEIVES):
        [_] = client.receive_message(QueueUrl=url, VisibilityTimeout=0, WaitTimeSeconds=5)[
            "Messages"
        ]
    assert not client.receive_message(QueueUrl=url).get("Messages")
    client.close()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sqs.CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokerq_sqs.client.CALL_TIMEOUT", 30)  # for an emulator on a busy machine


class SqsCases(BrokerContract):
    """The contract, with one case as SQS can keep it."""

    async def test_purging_leaves_what_is_in_flight_or_dead(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        """What is delayed can be removed only when it is due, so that purging takes its time."""
        await broker.publish([place.outgoing(lane) for _ in range(5)])
        await broker.publish([place.outgoing(lane, delay=place.harness.lease / 2)])
        async with broker.consume(lane, prefetch=2) as consumer:
            dead, kept = await place.receive(consumer, 2)
            await consumer.settle([(dead, Dead(message=dead.message))])
            purging = asyncio.ensure_future(broker.purge(lane.queue))
            await self.keep(consumer, kept, until=purging)
            assert purging.result() == 3 + 1
            purging = asyncio.ensure_future(broker.purge(lane.queue))
            await self.keep(consumer, kept, until=purging)
            assert purging.result() == 0
            assert await consumer.settle([(kept, Ack())]) == [True]
        await place.is_empty(broker, lane.queue)
        assert await letters(broker, lane.queue) == [dead.message]

    async def keep(
        self, consumer: Consumer, delivery: Delivery, *, until: asyncio.Future[int]
    ) -> None:
        """Extend a lease until something is done."""
        while not (await asyncio.wait([until], timeout=1))[0]:
            assert await consumer.extend([delivery]) == [True]
        assert await consumer.extend([delivery]) == [True]


@pytest.mark.timeout(sqs.INSTALLATION)
class TestSqsOnMinistack(SqsCases):
    @pytest.fixture
    def harness(self) -> BrokerHarness:
        return make_harness(sqs.ministack(), 2 * SECOND)


@pytest.mark.timeout(sqs.INSTALLATION)
class TestSqsOnLocalStack(SqsCases):
    @pytest.fixture
    def harness(self) -> BrokerHarness:
        return make_harness(sqs.localstack(), 4 * SECOND)
