"""Of a group of a FIFO queue one delivery at a time, though several are here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest
from brokerq_sqs.calls import Calls, Outcomes
from brokerq_sqs.client import Failure
from brokerq_sqs.consumer import Source
from brokerq_sqs.deployment import Place
from brokerq_sqs.ordered import OrderedConsumer
from brokerq_sqs.settling import Rules

from brokerq.broker import Ack, Dead, Delivery, Lane, Release, Reschedule, Verdict
from brokerq.clock import Clock
from brokerq.errors import BrokerqError
from brokerq.message import Message

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

LEASE = 30.0
PLACE = Place(name="q.fifo", url="q", ordered=True)
DEAD = Place(name="q-dead.fifo", url="dead", ordered=True)
REFUSED = Failure("no", transient=False)
LETTER = Dead(message=Message(headers={}, body=b"letter"))


class ManualClock(Clock):
    def __init__(self) -> None:
        self.time = 1_000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time


class Pile(Source):
    """Stands for the polls."""

    def __init__(self) -> None:
        self.error: BrokerqError | None = None
        self.here: list[Delivery] = []
        self.asked: list[int] = []
        self.was_asked = asyncio.Event()

    def take(self, limit: int) -> list[Delivery]:
        found, self.here = self.here[:limit], self.here[limit:]
        return found

    def ask(self, count: int) -> None:
        self.asked.append(count)
        self.was_asked.set()

    def rest(self) -> None:
        pass

    def withdraw(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Recorder:
    """Stands for the calls: notes them, and refuses what the test names."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.sent: list[str] = []
        self.changed: list[tuple[str, int]] = []
        self.refused: set[str] = set()
        self._called = asyncio.Event()
        self.going = asyncio.Event()
        self.going.set()

    def _answer(self, names: Sequence[str]) -> Outcomes:
        return [REFUSED if name in self.refused else None for name in names]

    async def delete(
        self, url: str, handles: Sequence[str], *, within: float | None = None
    ) -> Outcomes:
        assert url == "q"
        assert within is None or within > 0, "the lease has ended"
        await self.going.wait()
        self.deleted += handles
        return self._answer(handles)

    async def send(self, url: str, entries: Sequence[object], *, ordered: bool) -> Outcomes:
        assert (url, ordered) == ("dead", True)
        self.sent += [url] * len(entries)
        return [None] * len(entries)

    async def change_visibility(
        self, url: str, changes: Sequence[tuple[str, int]], *, within: float | None = None
    ) -> Outcomes:
        assert within is None or within > 0, "the lease has ended"
        assert url == "q"
        self.changed += changes
        self._called.set()
        return self._answer([handle for handle, _ in changes])

    async def are_changed(self, count: int) -> None:
        """Wait until the visibility of so many was."""
        async with asyncio.timeout(30):
            while len(self.changed) < count:
                self._called.clear()
                await self._called.wait()


class Scene:
    def __init__(self, lease: float = LEASE) -> None:
        self.clock = ManualClock()
        self.pile = Pile()
        self.calls = Recorder()
        self.consumer = OrderedConsumer(
            cast("Calls", self.calls),
            Lane(queue="q"),
            PLACE,
            DEAD,
            rules=Rules(ordered=True, max_receives=1_000),
            lease=timedelta(seconds=lease),
            prefetch=100,
            clock=self.clock,
            source=lambda _: self.pile,
        )

    def comes(self, *names: str) -> None:
        """Let messages arrive whose groups are their names' first letters."""
        for name in names:
            raw: MessageTypeDef = {
                "Body": name,
                "ReceiptHandle": name,
                "MessageId": name,
                "Attributes": {"MessageGroupId": name[0]},
            }
            self.pile.here.append(self.consumer.deliver(raw, self.clock.time))
        self.consumer.wake()

    async def receive(self, limit: int = 10) -> list[Delivery]:
        async with asyncio.timeout(30):
            return list(await self.consumer.receive(limit))

    async def settle(self, verdict: Verdict, *deliveries: Delivery) -> bool:
        return all(await self.consumer.settle([(each, verdict) for each in deliveries]))

    async def nothing_comes(self) -> None:
        receiving = asyncio.ensure_future(self.consumer.receive(10))
        self.pile.was_asked.clear()
        async with asyncio.timeout(30):
            await self.pile.was_asked.wait()
        assert not receiving.done()
        receiving.cancel()
        await asyncio.wait([receiving])

    async def is_given_back(self, *names: str) -> None:
        """Wait until just these were."""
        await self.calls.are_changed(len(names))
        assert sorted(self.calls.changed) == sorted((name, 0) for name in names)
        self.calls.changed.clear()


@pytest.fixture
async def scene() -> AsyncGenerator[Scene]:
    scene = Scene()
    yield scene
    await scene.consumer.close()


def names(deliveries: Sequence[Delivery]) -> list[str | None]:
    return [delivery.id for delivery in deliveries]


@pytest.mark.parametrize("verdict", [Ack(), LETTER], ids=["done", "dead"])
async def test_the_next_of_a_group_follows_when_one_is_removed(
    scene: Scene, verdict: Verdict
) -> None:
    scene.comes("a1", "a2", "b1", "a3", "c1")
    first = await scene.receive()
    assert names(first) == ["a1", "b1", "c1"]
    assert await scene.settle(verdict, first[1])  # the last of its group
    assert await scene.settle(verdict, first[0])
    [second] = await scene.receive()
    assert second.id == "a2"
    assert await scene.settle(verdict, second)
    assert names(await scene.receive()) == ["a3"]
    scene.comes("b2")
    assert names(await scene.receive()) == ["b2"]
    assert scene.calls.changed == []


async def test_what_waits_behind_others_keeps_nobody_from_asking_for_more(scene: Scene) -> None:
    scene.comes("a1", "a2", "a3")
    assert names(await scene.receive(2)) == ["a1"]
    receiving = asyncio.ensure_future(scene.consumer.receive(2))
    await asyncio.sleep(0)
    scene.comes("b1")
    async with asyncio.timeout(30):
        assert names(await receiving) == ["b1"]
    assert scene.pile.asked == [2]


@pytest.mark.parametrize("verdict", [Release(), Reschedule(delay=timedelta(seconds=7))])
async def test_where_one_comes_back_so_does_all_behind_it(scene: Scene, verdict: Verdict) -> None:
    scene.comes("a1", "b1", "a2", "b2", "a3")
    first, other = await scene.receive()
    assert await scene.settle(verdict, first)
    await scene.calls.are_changed(3)
    delay = 7 if isinstance(verdict, Reschedule) else 0
    assert scene.calls.changed == [(name, delay) for name in ("a1", "a2", "a3")]
    scene.comes("a1", "a2")
    assert names(await scene.receive()) == ["a1"]
    assert await scene.settle(Ack(), other)
    assert names(await scene.receive()) == ["b2"]
    scene.calls.changed.clear()


@pytest.mark.parametrize("copy", [None, Message(headers={}, body=b"copy")])
async def test_what_could_not_be_removed_counts_as_coming_back(
    scene: Scene, copy: Message | None
) -> None:
    scene.comes("a1", "a2")
    [first] = await scene.receive()
    scene.calls.refused = {"a1"}
    verdict = Ack() if copy is None else Reschedule(delay=timedelta(0), message=copy)
    assert not await scene.settle(verdict, first)
    await scene.is_given_back("a2")
    await scene.nothing_comes()


async def test_nobody_overtakes_one_that_is_being_settled(scene: Scene) -> None:
    scene.comes("a1", "a2")
    [first] = await scene.receive()
    scene.pile.was_asked.clear()
    scene.calls.going.clear()
    settling = asyncio.ensure_future(scene.settle(Ack(), first))
    receiving = asyncio.ensure_future(scene.receive())
    async with asyncio.timeout(30):
        await scene.pile.was_asked.wait()
    assert not receiving.done()
    scene.calls.going.set()
    assert await settling
    assert names(await receiving) == ["a2"]
    assert scene.calls.changed == []


async def test_leases_of_what_waits_are_renewed_with_those_that_are_held(scene: Scene) -> None:
    scene.comes("a1", "a2", "a3")
    [first] = await scene.receive()
    for _ in range(3):
        scene.clock.time += LEASE * 0.9
        assert await scene.consumer.extend([first]) == [True]
    assert scene.calls.changed == [(name, LEASE) for name in ("a1", "a2", "a3")] * 3
    scene.calls.changed.clear()
    assert await scene.settle(Ack(), first)
    assert names(await scene.receive()) == ["a2"]


async def test_where_a_lease_is_lost_nothing_behind_it_is_begun(scene: Scene) -> None:
    scene.comes("a1", "a2", "a3", "b1", "b2", "b3")
    first, other = await scene.receive()
    scene.calls.refused = {"a1", "b2"}
    assert await scene.consumer.extend([first, other]) == [False, True]
    scene.calls.changed.clear()
    await scene.is_given_back("a2", "a3")
    assert not await scene.settle(Ack(), first)
    assert await scene.settle(Ack(), other)
    await scene.nothing_comes()  # b2 was lost, and b3 is after it
    await scene.is_given_back("b3")


async def test_what_has_lapsed_is_not_begun(scene: Scene) -> None:
    scene.comes("a1", "a2")
    await scene.receive()
    scene.comes("c1")
    scene.clock.time += LEASE + 1
    await scene.nothing_comes()
    scene.comes("a1", "a2")
    assert names(await scene.receive()) == ["a1"]
    assert scene.calls.changed == []


async def test_who_wants_no_more_gives_back_what_was_not_begun(scene: Scene) -> None:
    scene.comes("a1", "a2", "b1", "b2")
    [first] = await scene.receive(1)
    assert first.id == "a1"
    assert names(await scene.receive(1)) == ["b1"]
    await scene.nothing_comes()
    await scene.is_given_back("a2", "b2")
    assert await scene.settle(Ack(), first)
    await scene.nothing_comes()


async def test_leaving_gives_everything_back(scene: Scene) -> None:
    scene.comes("a1", "a2", "b1", "b2")
    assert names(await scene.receive(1)) == ["a1"]
    await scene.consumer.close()
    await scene.is_given_back("a1", "a2", "b1", "b2")


async def test_what_nobody_takes_is_given_back_before_its_lease_ends() -> None:
    scene = Scene(lease=0.06)
    scene.comes("a1", "a2", "b1")
    assert names(await scene.receive(1)) == ["a1"]
    await scene.is_given_back("b1")
    await scene.consumer.close()
