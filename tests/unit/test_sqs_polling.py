"""Polls grow and shrink with demand, strand nothing and outlive trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, cast

import pytest
from brokerq_sqs import polling
from brokerq_sqs.client import Client
from brokerq_sqs.errors import CallFailedError
from brokerq_sqs.polling import Poller
from brokerq_sqs.settling import Hold

from brokerq.broker import Delivery, Lane
from brokerq.clock import Clock
from brokerq.duration import ZERO
from brokerq.errors import ConnectionLostError, UnknownQueueError
from brokerq.message import Message

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

KEEP = 0.05


class ManualClock(Clock):
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time


class Queue:
    """Stands for the client: each poll ends when the test says how."""

    def __init__(self) -> None:
        self.polls: list[tuple[int, int, asyncio.Future[Sequence[MessageTypeDef]]]] = []
        self.most_at_once = 0
        self._begun = asyncio.Event()

    async def receive(
        self, url: str, *, limit: int, visibility: int, wait: int
    ) -> Sequence[MessageTypeDef]:
        assert (url, visibility) == ("url", 30)
        answer: asyncio.Future[Sequence[MessageTypeDef]] = asyncio.Future()
        self.polls.append((limit, wait, answer))
        self._begun.set()
        under_way = sum(not poll.done() for *_, poll in self.polls)
        self.most_at_once = max(self.most_at_once, under_way)
        return await answer

    async def begun(self, count: int) -> None:
        """Wait until so many polls have begun, in all."""
        async with asyncio.timeout(30):
            while len(self.polls) < count:
                self._begun.clear()
                await self._begun.wait()

    def answer(self, number: int, count: int) -> None:
        """Let a poll return so many messages."""
        self.polls[number][2].set_result([{"MessageId": f"{number}.{n}"} for n in range(count)])

    def fail(self, number: int, failure: CallFailedError) -> None:
        self.polls[number][2].set_exception(failure)


class Scene:
    def __init__(self) -> None:
        self.queue = Queue()
        self.clock = ManualClock()
        self.returned: list[str | None] = []
        self.changed = asyncio.Event()
        self._returning = asyncio.Event()
        self.poller = Poller(
            cast("Client", self.queue),
            "url",
            visibility=30,
            keep=KEEP,
            longest_wait=10,
            batch=10,
            deliver=self.deliver,
            give_back=self.give_back,
            on_change=self.changed.set,
            clock=self.clock,
            random=Random(1),
        )

    def deliver(self, raw: MessageTypeDef, since: float) -> Delivery:
        hold = Hold("handle", since=since, until=since + 30, receives=1, group=None)
        message = Message(headers={}, body=b"")
        return Delivery(
            message=message,
            lane=Lane(queue="q"),
            id=raw.get("MessageId"),
            token=hold,
            count=1,
            in_place=ZERO,
        )

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        self.returned += [delivery.id for delivery in deliveries]
        self._returning.set()

    async def change(self) -> None:
        """Wait until something was found, or failed."""
        async with asyncio.timeout(30):
            await self.changed.wait()
        self.changed.clear()

    async def until_returned(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.returned) < count:
                self._returning.clear()
                await self._returning.wait()


@pytest.fixture
async def scene() -> Scene:
    return Scene()


def failure(*, transient: bool = True, busy: bool = False) -> CallFailedError:
    return CallFailedError(ConnectionLostError("away"), transient=transient, busy=busy)


async def test_full_polls_double_and_an_empty_one_leaves_one(scene: Scene) -> None:
    scene.poller.ask(200)
    await scene.queue.begun(1)
    scene.queue.answer(0, 10)
    await scene.change()
    scene.poller.ask(200)
    await scene.queue.begun(3)
    for number in (1, 2):
        scene.queue.answer(number, 10)
    await scene.change()
    scene.poller.ask(200)
    await scene.queue.begun(7)
    assert scene.queue.most_at_once == 4
    for number in range(3, 7):
        scene.queue.answer(number, 0)
        await scene.change()
    scene.poller.ask(200)
    await scene.queue.begun(8)
    scene.poller.ask(200)
    assert len(scene.poller.take(200)) == 30
    scene.queue.answer(7, 0)
    await scene.poller.close()
    assert len(scene.queue.polls) == 8


async def test_no_more_is_asked_for_than_there_is_room(scene: Scene) -> None:
    scene.poller.ask(3)
    await scene.queue.begun(1)
    scene.queue.answer(0, 3)
    await scene.change()
    scene.poller.ask(4)
    await scene.queue.begun(2)
    assert [limit for limit, *_ in scene.queue.polls] == [3, 1]
    assert scene.poller.expected == 4
    scene.queue.answer(1, 0)
    await scene.poller.close()


async def test_idle_polls_grow_longer_and_a_message_makes_them_short_again(scene: Scene) -> None:
    for number, found in enumerate((0, 0, 0, 0, 0, 1, 0)):
        scene.poller.ask(1)
        await scene.queue.begun(number + 1)
        scene.queue.answer(number, found)
        await scene.change()
        scene.poller.take(1)
    assert [wait for _, wait, _ in scene.queue.polls] == [1, 2, 4, 8, 10, 10, 1]


async def test_what_comes_after_a_cancelled_receive_is_given_back(scene: Scene) -> None:
    scene.poller.ask(5)
    await scene.queue.begun(1)
    scene.poller.withdraw()
    scene.queue.answer(0, 2)
    await scene.until_returned(2)
    await scene.change()
    scene.poller.ask(5)
    await scene.queue.begun(2)
    scene.queue.answer(1, 1)
    await scene.change()
    assert [delivery.id for delivery in scene.poller.take(5)] == ["1.0"]
    assert scene.returned == ["0.0", "0.1"]


async def test_what_nobody_fetches_in_time_is_given_back(scene: Scene) -> None:
    scene.poller.ask(5)
    await scene.queue.begun(1)
    scene.queue.answer(0, 2)
    await scene.change()
    assert len(scene.poller.take(1)) == 1
    scene.poller.rest()
    scene.clock.time += KEEP
    await scene.until_returned(1)
    assert scene.returned == ["0.1"]
    assert scene.poller.take(5) == []


async def test_closing_waits_for_the_poll_and_gives_back_what_it_brings(scene: Scene) -> None:
    scene.poller.ask(5)
    await scene.queue.begun(1)
    closing = asyncio.create_task(scene.poller.close())
    await asyncio.sleep(0)
    assert not closing.done()
    scene.queue.answer(0, 2)
    async with asyncio.timeout(30):
        await closing
    assert scene.returned == ["0.0", "0.1"]


async def test_trouble_that_passes_is_waited_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "_FIRST_PAUSE", 0.001)
    for number in range(3):
        scene.poller.ask(5)
        await scene.queue.begun(number + 1)
        scene.queue.fail(number, failure())
        await scene.change()
    scene.poller.ask(5)
    await scene.queue.begun(4)
    scene.queue.answer(3, 1)
    await scene.change()
    assert scene.poller.error is None
    assert len(scene.poller.take(5)) == 1


async def test_a_broker_that_stays_away_is_gone_but_a_busy_one_is_not(scene: Scene) -> None:
    for number, busy in enumerate((True, True, False)):
        scene.poller.ask(5)
        await scene.queue.begun(number + 1)
        scene.queue.fail(number, failure(busy=busy))
        scene.clock.time += polling.GONE_AFTER
        await scene.change()
        assert (scene.poller.error is None) is busy


async def test_a_queue_that_is_gone_ends_it_at_once(scene: Scene) -> None:
    scene.poller.ask(5)
    await scene.queue.begun(1)
    scene.queue.fail(0, CallFailedError(UnknownQueueError("gone"), transient=False))
    await scene.change()
    assert isinstance(scene.poller.error, UnknownQueueError)


async def test_closing_does_not_wait_for_a_pause(scene: Scene) -> None:
    scene.poller.ask(5)
    await scene.queue.begun(1)
    scene.queue.fail(0, failure())
    await asyncio.sleep(0)
    async with asyncio.timeout(0.1):
        await scene.poller.close()
