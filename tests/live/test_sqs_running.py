"""The SQS adapter against a server: limits, what SQS gives up on, order and leaving."""

from __future__ import annotations

import asyncio
import json
import os
import traceback
import warnings
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random
from uuid import uuid4

import pytest
from brokerq_sqs.broker import SqsBroker
from brokerq_sqs.client import Client
from brokerq_sqs.settings import Settings

from brokerq.broker import Ack, Dead, Lane, Outgoing, QueueSpec, Release, Reschedule
from brokerq.clock import SystemClock
from brokerq.errors import CapabilityError, ConfigurationError, ConnectionLostError
from brokerq.message import Message
from tests.services import sqs

pytestmark = pytest.mark.timeout(sqs.INSTALLATION)
LANE = Lane(queue="jobs")
SPEC = QueueSpec(name="jobs", lease=timedelta(seconds=10))
Make = Callable[[], SqsBroker]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in sqs.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    second = timedelta(seconds=1)
    return Settings(
        region=sqs.REGION,
        prefix=f"t{uuid4().hex[:12]}",
        endpoint=sqs.ministack(),
        wait=second,
        look_every=second / 10,
    )


def make(settings: Settings) -> SqsBroker:
    return SqsBroker(settings, clock=SystemClock(), random=Random(1))


@pytest.fixture
async def broker(settings: Settings) -> AsyncGenerator[SqsBroker]:
    broker = make(settings)
    await broker.open()
    await broker.declare([SPEC])
    yield broker
    await broker.close()


def outgoing(job_id: str, *, lane: Lane = LANE, order: str | None = None) -> Outgoing:
    message = Message(headers={"bq-id": job_id}, body=job_id.encode())
    return Outgoing(lane=lane, message=message, id=job_id, order=order)


async def wait_for(broker: SqsBroker, **wanted: int) -> None:
    """Wait until the queue's figures are these."""
    async with asyncio.timeout(10):
        while True:
            [stats] = await broker.stats([LANE.queue])
            if all(getattr(stats, name) == count for name, count in wanted.items()):
                return
            await asyncio.sleep(0.02)


async def test_what_is_given_back_for_ever_is_never_given_up_on(broker: SqsBroker) -> None:
    await broker.publish([outgoing("patient")])
    counts: list[int | None] = []
    async with broker.consume(LANE, prefetch=1) as consumer:
        for _ in range(40):
            [delivery] = await consumer.receive(1)
            assert delivery.id == "patient"
            assert delivery.message == outgoing("patient").message
            counts.append(delivery.count)
            assert await consumer.settle([(delivery, Release())]) == [True]
    assert max(count or 0 for count in counts) == 16
    assert (await broker.stats([LANE.queue]))[0].dead == 0


def give_up(settings: Settings, *names: str) -> None:
    """Receive until SQS has had enough of all that is in the queue."""
    client = sqs.raw_client(settings.endpoint or "")
    for name in names:
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
        dead = client.get_queue_url(QueueName=f"{name}-dead")["QueueUrl"]
        found = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
        policy = {"deadLetterTargetArn": found["Attributes"]["QueueArn"], "maxReceiveCount": 1}
        attributes = {"RedrivePolicy": json.dumps(policy)}
        client.set_queue_attributes(QueueUrl=url, Attributes=attributes)  # type: ignore[arg-type]
        for _ in range(2):
            client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    client.close()


async def test_what_sqs_gave_up_on_is_found_and_judged(
    broker: SqsBroker, settings: Settings
) -> None:
    letter = Message(headers={"bq-id": "old", "bq-dead-reason": "exhausted"}, body=b"old")
    await broker.publish([outgoing("old")])
    async with broker.consume(LANE, prefetch=1) as consumer:
        [delivery] = await consumer.receive(1)
        assert await consumer.settle([(delivery, Dead(message=letter))]) == [True]
    async with broker.salvage(LANE.queue, prefetch=10) as salvage:
        receiving = asyncio.ensure_future(salvage.receive(10))
        assert not (await asyncio.wait([receiving], timeout=1.5))[0]  # judged ones are no find
        await broker.publish([outgoing("crashed"), outgoing("ended")])
        await asyncio.to_thread(give_up, settings, f"{settings.prefix}__jobs")
        async with asyncio.timeout(10):
            found = {delivery.id: delivery for delivery in await receiving}
            while len(found) < 2:
                found |= {delivery.id: delivery for delivery in await salvage.receive(10)}
        assert found["crashed"].message == outgoing("crashed").message
        headers = {"bq-id": "crashed", "bq-dead-reason": "crash_loop"}
        record = Message(headers=headers, body=b"crashed")
        assert await salvage.settle([(found["crashed"], Dead(message=record))]) == [True]
        assert await salvage.settle([(found["ended"], Ack())]) == [True]
    async with broker.browse(LANE.queue) as letters:
        left = [message async for message in letters]
    assert sorted(left, key=lambda message: message.body) == [record, letter]


async def test_what_salvage_puts_off_is_looked_at_again(
    broker: SqsBroker, settings: Settings
) -> None:
    await broker.publish([outgoing("crashed")])
    await asyncio.to_thread(give_up, settings, f"{settings.prefix}__jobs")
    async with broker.salvage(LANE.queue, prefetch=10) as salvage, asyncio.timeout(20):
        for _ in range(2):
            [delivery] = await salvage.receive(10)
            assert delivery.id == "crashed"
            assert await salvage.settle([(delivery, Release())]) == [True]
    async with broker.salvage(LANE.queue, prefetch=10) as salvage, asyncio.timeout(20):
        [delivery] = await salvage.receive(10)  # and leaving gives it back
    await wait_for(broker, dead=1)
    async with broker.salvage(LANE.queue, prefetch=10) as salvage, asyncio.timeout(20):
        assert len(await salvage.receive(10)) == 1


async def test_who_stops_looking_at_dead_letters_in_mid_poll_hides_none(
    broker: SqsBroker, settings: Settings
) -> None:
    await broker.publish([outgoing("crashed")])
    await asyncio.to_thread(give_up, settings, f"{settings.prefix}__jobs")
    for turns in range(10):  # so that the two meet at every possible point
        looking = asyncio.ensure_future(broker.discard(LANE.queue, [("nobody", 0)]))
        await asyncio.sleep(turns * 0.003)
        looking.cancel()
        await asyncio.wait([looking])
        async with broker.browse(LANE.queue) as letters:
            assert [message.body async for message in letters] == [b"crashed"]


async def test_leaving_in_mid_poll_strands_nothing(broker: SqsBroker, settings: Settings) -> None:
    other = make(settings)
    await other.open()
    async with broker.consume(LANE, prefetch=10) as consumer:
        receiving = asyncio.ensure_future(consumer.receive(10))
        await asyncio.sleep(0.2)
        leaving = asyncio.ensure_future(broker.close())
        await other.publish([outgoing(f"j{n}") for n in range(5)])
        async with asyncio.timeout(30):
            await leaving
        with pytest.raises(ConnectionLostError):
            await receiving
    await wait_for(other, ready=5, in_flight=0)
    await other.close()


@pytest.mark.parametrize("emulator", [sqs.ministack, sqs.localstack])
async def test_several_keys_are_read_together_and_each_keeps_its_order(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, emulator: Callable[[], str]
) -> None:
    """The first and the third of each key fail once, so that all behind them goes back."""
    broker = make(replace(settings, endpoint=emulator()))
    await broker.open()
    lane = Lane(queue="ordered")
    await broker.declare([QueueSpec(name="ordered", ordered=True, lease=SPEC.lease)])
    names = [f"{key}{number}" for number in range(8) for key in "ab"]
    await broker.publish([outgoing(name, lane=lane, order=name[0]) for name in names])
    to_fail = {"a0", "b0", "a2", "b2"}
    done: list[str] = []
    polls: list[int] = []
    receive = Client.receive

    async def count(
        self: Client, url: str, *, limit: int, visibility: int, wait: int
    ) -> Sequence[object]:
        found = await receive(self, url, limit=limit, visibility=visibility, wait=wait)
        polls.append(len(found))
        return found

    monkeypatch.setattr(Client, "receive", count)
    async with broker.consume(lane, prefetch=10) as consumer, asyncio.timeout(30):
        while len(done) < len(names):
            for delivery in await consumer.receive(10):
                name = delivery.id or ""
                if name in to_fail:
                    to_fail.remove(name)
                    verdict = Reschedule(delay=timedelta(seconds=1))
                    assert await consumer.settle([(delivery, verdict)]) == [True]
                else:
                    done.append(name)
                    assert await consumer.settle([(delivery, Ack())]) == [True]
    for key in "ab":
        assert [name for name in done if name[0] == key] == [f"{key}{n}" for n in range(8)]
    assert max(polls) > 2  # more than one of a key in a call
    await broker.close()


async def test_an_ordered_queue_keeps_delays_out(broker: SqsBroker) -> None:
    lane = Lane(queue="ordered")
    await broker.declare([QueueSpec(name="ordered", ordered=True)])
    late = Outgoing(
        lane=lane, message=Message(headers={}, body=b"{}"), id="j", delay=timedelta(seconds=1)
    )
    with pytest.raises(CapabilityError, match="delay"):
        await broker.publish([outgoing("a", lane=lane), late])
    assert (await broker.stats(["ordered"]))[0].ready == 0


async def test_a_job_that_was_held_for_hours_can_still_be_given_back(broker: SqsBroker) -> None:
    await broker.publish([outgoing("a")])
    async with broker.consume(LANE, prefetch=1) as consumer:
        [delivery] = await consumer.receive(1)
        delay = timedelta(days=1)
        assert await consumer.settle([(delivery, Reschedule(delay=delay))]) == [True]
        await wait_for(broker, in_flight=1, ready=0)


def test_a_forked_child_is_told_to_open_anew_and_then_can(settings: Settings) -> None:
    broker = make(settings)
    with asyncio.Runner() as runner:
        runner.run(broker.open())
        runner.run(broker.declare([SPEC]))
        with warnings.catch_warnings():
            # Python 3.12 and newer warn of forking with threads; that is what is tested.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os._exit(in_child(broker))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        runner.run(broker.publish([outgoing("parent's")]))
        runner.run(wait_for(broker, ready=2))
        runner.run(broker.close())


def in_child(broker: SqsBroker) -> int:
    """Use a broker of the parent: refused, then open it. Return what the child ends with."""

    async def use() -> None:
        with pytest.raises(ConnectionLostError, match="forked"):
            await broker.publish([outgoing("child's")])
        await broker.close()
        await broker.open()
        await broker.publish([outgoing("child's")])
        await broker.close()

    try:
        asyncio.run(use())
    except BaseException:  # noqa: BLE001 - nothing may leave the child but its status
        traceback.print_exc()
        return 1
    return 0


async def test_without_credentials_opening_says_where_they_come_from(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in sqs.CREDENTIALS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(ConfigurationError, match="credentials"):
        await make(settings).open()
