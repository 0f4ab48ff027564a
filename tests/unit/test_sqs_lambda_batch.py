"""An event is a broker of its messages: what each verdict calls, and what Lambda is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

import pytest
from brokerq_sqs.client import Client, Failure, Failures
from brokerq_sqs.deployment import Place
from brokerq_sqs.lambda_batch import MARGIN, EventBatch, Ground, Origin
from brokerq_sqs.lambda_event import read_event
from brokerq_sqs.lambda_source import HostDeletes
from brokerq_sqs.persistence import Persistence
from brokerq_sqs.settling import Rules
from brokerq_sqs.wire import Entry

from brokerq.broker import Ack, Dead, Delivery, Lane, QueueSpec, Release, Reschedule, Verdict
from brokerq.clock import Clock
from brokerq.duration import ZERO
from brokerq.message import Message

LANE = Lane(queue="mail")
SPEC = QueueSpec(name="mail", lease=timedelta(seconds=30))
COPY = Message(headers={"bq-id": "j", "bq-epoch": "1"}, body=b"{}")
GONE = Failure("gone", transient=False)


class ManualClock(Clock):
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time, UTC)

    def monotonic(self) -> float:
        return self.time


class Sqs:
    """Stands for the client: notes what is called, refuses what it is told to."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.hidden: list[tuple[str, int]] = []
        self.refused: set[str] = set()

    async def send_batch(self, url: str, entries: Sequence[Entry]) -> Failures:
        self.sent += [(url, entry.delay) for entry in entries]
        return dict.fromkeys(range(len(entries)), GONE) if url in self.refused else {}

    async def change_visibility_batch(
        self, url: str, changes: Sequence[tuple[str, int]]
    ) -> Failures:
        assert url == "jobs"
        self.hidden += changes
        return {n: GONE for n, (handle, _) in enumerate(changes) if handle in self.refused}


class Scene:
    """One event: of `groups` a message each, with the ids m0, m1 and so on."""

    def __init__(
        self,
        groups: Sequence[str],
        *,
        ordered: bool = False,
        receives: int = 1,
        seconds: float | None = 60,
    ) -> None:
        self.sqs = Sqs()
        self.clock = ManualClock()
        self.seconds = seconds
        calls = HostDeletes(cast("Client", self.sqs), Persistence(Random(1)))
        records = [self.record(n, group, receives) for n, group in enumerate(groups)]
        self.batch = EventBatch(
            cast("Origin", None),
            calls,
            read_event({"Records": records}),
            None if seconds is None else self,
            spec=SPEC,
            lane=LANE,
            ground=Ground(
                place=Place(name="mail", url="jobs", ordered=ordered),
                dead=Place(name="mail-dead", url="dead", ordered=ordered),
                rules=Rules(ordered=ordered, max_receives=1_000 if ordered else 25),
                lease=timedelta(seconds=30),
            ),
            clock=self.clock,
        )

    def get_remaining_time_in_millis(self) -> float:
        assert self.seconds is not None
        return self.seconds * 1000

    @staticmethod
    def record(number: int, group: str, receives: int) -> dict[str, Any]:
        return {
            "messageId": f"m{number}",
            "receiptHandle": f"r{number}",
            "body": "{}",
            "attributes": {"ApproximateReceiveCount": str(receives), "MessageGroupId": group},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:1:mail",
        }

    @property
    def failed(self) -> list[str]:
        """What Lambda is told that stays in the queue."""
        answer = cast("dict[str, list[dict[str, str]]]", self.batch.answer())
        return [each["itemIdentifier"] for each in answer["batchItemFailures"]]

    async def is_settled(self) -> bool:
        """Tell whether the event is done with, now."""
        done, pending = await asyncio.wait(
            [asyncio.ensure_future(self.batch.settled())], timeout=0.01
        )
        for task in pending:
            task.cancel()
        return bool(done)


def ids(deliveries: Sequence[Delivery]) -> list[str | None]:
    return [delivery.id for delivery in deliveries]


@pytest.mark.parametrize(
    ("verdict", "failed", "sent", "hidden"),
    [
        (Ack(), [], [], []),
        (Dead(message=COPY), [], [("dead", 0)], []),
        (Reschedule(delay=timedelta(seconds=7), message=COPY), [], [("jobs", 7)], []),
        (Reschedule(delay=timedelta(seconds=7)), ["m0"], [], [("r0", 7)]),
        (Release(), ["m0"], [], [("r0", 0)]),
        (Release(delay=timedelta(hours=1)), ["m0"], [], [("r0", 3600)]),
    ],
)
async def test_what_a_verdict_is_to_lambda(
    verdict: Verdict,
    failed: list[str],
    sent: list[tuple[str, int]],
    hidden: list[tuple[str, int]],
) -> None:
    scene = Scene(["a"])
    assert scene.failed == ["m0"]
    async with scene.batch.consume(LANE, prefetch=10) as consumer:
        [delivery] = await consumer.receive(10)
        assert not await scene.is_settled()
        assert await consumer.settle([(delivery, verdict)]) == [True]
        assert await scene.is_settled()
        assert await consumer.settle([(delivery, verdict)]) == [False]
    assert (scene.failed, scene.sqs.sent, scene.sqs.hidden) == (failed, sent, hidden)


async def test_a_dead_letter_that_is_not_confirmed_keeps_the_message() -> None:
    scene = Scene(["a"])
    scene.sqs.refused.add("dead")
    async with scene.batch.consume(LANE, prefetch=10) as consumer:
        [delivery] = await consumer.receive(10)
        assert await consumer.settle([(delivery, Dead(message=COPY))]) == [False]
    assert scene.failed == ["m0"]


async def test_what_is_near_to_sqs_s_limit_goes_on_as_a_copy() -> None:
    scene = Scene(["a", "b"], receives=24)
    async with scene.batch.consume(LANE, prefetch=1) as consumer:
        [delivery] = await consumer.receive(1)
        assert await consumer.settle([(delivery, Release())]) == [True]
    assert scene.sqs.sent == [("jobs", 0)] * 2  # what nobody has received too
    assert scene.failed == []


async def test_leaving_gives_back_what_was_not_settled() -> None:
    scene = Scene(["a", "b", "c"])
    async with scene.batch.consume(LANE, prefetch=10) as consumer:
        first, _ = await consumer.receive(2)
        await consumer.settle([(first, Ack())])
        [stats] = await scene.batch.stats(["mail"])
        assert (stats.ready, stats.in_flight) == (1, 1)
    assert sorted(scene.sqs.hidden) == [("r1", 0), ("r2", 0)]
    assert scene.failed == ["m1", "m2"]


async def test_of_an_ordered_queue_s_group_one_is_out_at_a_time() -> None:
    scene = Scene(["a", "a", "b", "a", "b"], ordered=True)
    async with scene.batch.consume(LANE, prefetch=10) as consumer:
        heads = await consumer.receive(10)
        assert ids(heads) == ["m0", "m2"]
        waiting = asyncio.ensure_future(consumer.receive(10))
        assert await consumer.settle([(heads[0], Ack())]) == [True]
        [second] = await waiting
        assert second.id == "m1"
        assert await consumer.settle([(second, Reschedule(delay=timedelta(seconds=9)))]) == [True]
        assert scene.sqs.hidden == [("r1", 9), ("r3", 9)]
        assert await consumer.settle([(heads[1], Dead(message=COPY))]) == [True]
        [last] = await consumer.receive(10)
        assert last.id == "m4"
        assert not await scene.is_settled()
        assert await consumer.settle([(last, Ack())]) == [True]
        assert await scene.is_settled()
    assert scene.failed == ["m1", "m3"]


async def test_of_a_standard_queue_a_group_is_a_tenant_and_keeps_nobody_waiting() -> None:
    scene = Scene(["a", "a", "a"])
    async with scene.batch.consume(LANE, prefetch=10) as consumer:
        assert ids(await consumer.receive(10)) == ["m0", "m1", "m2"]


async def test_a_copy_on_an_ordered_queue_is_refused_and_nothing_overtakes() -> None:
    scene = Scene(["a", "a"], ordered=True)
    async with scene.batch.consume(LANE, prefetch=10) as consumer:
        [head] = await consumer.receive(10)
        verdict = Reschedule(delay=ZERO, message=COPY)
        assert await consumer.settle([(head, verdict)]) == [False]
        assert await scene.is_settled()
    assert scene.failed == ["m0", "m1"]


async def test_a_lease_covers_the_function_s_time() -> None:
    scene = Scene(["a"], seconds=600)
    async with scene.batch.consume(LANE, prefetch=10) as consumer:
        [delivery] = await consumer.receive(10)
        assert await consumer.extend([delivery]) == [True]
        assert scene.sqs.hidden == [("r0", 600 + MARGIN.total_seconds())]
        scene.clock.time += 605
        assert await consumer.settle([(delivery, Ack())]) == [True]


async def test_what_cannot_be_extended_is_lost_and_so_is_what_comes_after_it() -> None:
    scene = Scene(["a", "a"], ordered=True)
    scene.sqs.refused.add("r0")
    async with scene.batch.consume(LANE, prefetch=10) as consumer:
        [head] = await consumer.receive(10)
        assert await consumer.extend([head]) == [False]
        assert await scene.is_settled()
    assert scene.sqs.hidden[-1] == ("r1", 0)
    assert scene.failed == ["m0", "m1"]


@pytest.mark.parametrize("seconds", [60, None])
async def test_what_was_not_begun_in_time_is_left_alone(seconds: float | None) -> None:
    scene = Scene(["a", "b"], seconds=seconds)
    async with scene.batch.consume(LANE, prefetch=10) as consumer:
        assert len(await consumer.receive(1)) == 1
        scene.clock.time += 71
        receiving = asyncio.ensure_future(consumer.receive(1))
        assert not (await asyncio.wait([receiving], timeout=0.01))[0]
        receiving.cancel()
        await asyncio.wait([receiving])
    assert scene.sqs.hidden == []
    assert scene.failed == ["m0", "m1"]


async def test_another_lane_has_nothing() -> None:
    scene = Scene(["a"])
    async with scene.batch.consume(Lane(queue="mail", level="high"), prefetch=10) as consumer:
        receiving = asyncio.ensure_future(consumer.receive(10))
        assert not (await asyncio.wait([receiving], timeout=0.01))[0]
        receiving.cancel()
        await asyncio.wait([receiving])
    [stats] = await scene.batch.stats(["other"])
    assert (stats.ready, stats.in_flight) == (0, 0)
    assert (await scene.batch.stats(["mail"]))[0].ready == 1
