"""Publishes that run at the same time share calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from brokerq_sqs.calls import Calls, Outcomes
from brokerq_sqs.client import Failure
from brokerq_sqs.errors import closed
from brokerq_sqs.merging import Merger
from brokerq_sqs.wire import MAX_WIRE, Entry, Packed

from brokerq.errors import ConnectionLostError

FOREVER = 60.0


class Queue:
    """Stands for the calls: each ends when the test says so, and bad bodies fail."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.ordered: set[bool] = set()
        self._called = asyncio.Event()
        self.going = asyncio.Event()
        self.going.set()

    async def send(self, url: str, entries: Sequence[Entry], *, ordered: bool) -> Outcomes:
        self.sent.append([entry.packed.body for entry in entries])
        self.ordered.add(ordered)
        self._called.set()
        await self.going.wait()
        if url == "closed":
            raise closed()
        return [Failure(body, transient=False) if body == "bad" else None for body in self.sent[-1]]

    async def is_sent(self, calls: int) -> None:
        async with asyncio.timeout(30):
            while len(self.sent) < calls:
                self._called.clear()
                await self._called.wait()


def make(queue: Queue, linger: float = FOREVER) -> Merger:
    return Merger(cast("Calls", queue), linger=linger)


def entries(*bodies: str, size: int = 1) -> list[Entry]:
    return [Entry(Packed(body, {}, size)) for body in bodies]


def numbers(start: int, end: int) -> list[str]:
    return [str(n) for n in range(start, end)]


async def test_what_is_published_alone_waits_for_nothing() -> None:
    queue = Queue()
    merger = make(queue)
    async with asyncio.timeout(30):
        for name in "abc":
            assert await merger.send("url", entries(name), ordered=False) == [None]
        await merger.send("url", entries(*numbers(0, 25)), ordered=False)
    assert queue.sent == [["a"], ["b"], ["c"], numbers(0, 10), numbers(10, 20), numbers(20, 25)]


async def test_what_is_published_at_the_same_time_goes_together_with_a_result_for_each() -> None:
    queue = Queue()
    merger = make(queue)
    names = [*numbers(0, 11), "bad"]
    async with asyncio.timeout(30):
        outcomes = await asyncio.gather(
            *(merger.send("url", entries(name), ordered=False) for name in names)
        )
    assert queue.sent == [numbers(0, 10), ["10", "bad"]]
    assert outcomes == [[None]] * 11 + [[Failure("bad", transient=False)]]


@pytest.mark.parametrize("ordered", [False, True])
async def test_what_comes_while_a_call_is_under_way_goes_together_when_it_ends(
    *, ordered: bool
) -> None:
    queue = Queue()
    merger = make(queue)
    queue.going.clear()
    first = asyncio.create_task(merger.send("url", entries("first"), ordered=ordered))
    await queue.is_sent(1)
    later = [
        asyncio.create_task(merger.send("url", entries(name), ordered=ordered)) for name in "abc"
    ]
    elsewhere = asyncio.create_task(merger.send("other", entries("x"), ordered=ordered))
    await queue.is_sent(2)
    assert queue.sent == [["first"], ["x"]]
    queue.going.set()
    async with asyncio.timeout(30):
        await asyncio.gather(first, elsewhere, *later)
    assert queue.sent[2:] == [["a", "b", "c"]]
    assert queue.ordered == {ordered}


async def test_nothing_lingers_for_long_and_ten_do_not_at_all() -> None:
    queue = Queue()
    merger, patient = make(queue, linger=0.001), make(queue)
    queue.going.clear()
    tasks = [asyncio.create_task(merger.send("url", entries("a"), ordered=False))]
    await queue.is_sent(1)
    tasks.append(asyncio.create_task(merger.send("url", entries("b"), ordered=False)))
    await queue.is_sent(2)
    tasks.append(asyncio.create_task(patient.send("url", entries("c"), ordered=False)))
    await queue.is_sent(3)
    many = entries(*numbers(0, 10))
    tasks.append(asyncio.create_task(patient.send("url", many, ordered=False)))
    await queue.is_sent(4)
    assert queue.sent == [["a"], ["b"], ["c"], numbers(0, 10)]
    queue.going.set()
    await asyncio.gather(*tasks)


async def test_a_call_is_never_larger_than_sqs_takes() -> None:
    queue = Queue()
    merger = make(queue)
    half = MAX_WIRE // 2
    await asyncio.gather(
        *(merger.send("url", entries(n, size=half), ordered=False) for n in "abc"),
    )
    assert queue.sent == [["a", "b"], ["c"]]


async def test_what_is_ordered_and_published_together_stays_in_its_order() -> None:
    queue = Queue()
    merger = make(queue)
    await asyncio.gather(
        merger.send("url", entries("a", "b"), ordered=True),
        merger.send("url", entries("c"), ordered=True),
    )
    assert sorted(queue.sent) == [["a", "b"], ["c"]]


async def test_who_gives_up_takes_nobody_along_and_an_error_reaches_everybody() -> None:
    queue = Queue()
    merger = make(queue)
    queue.going.clear()
    impatient, patient = (
        asyncio.create_task(merger.send("url", entries(name), ordered=False)) for name in "ab"
    )
    await queue.is_sent(1)
    impatient.cancel()
    await asyncio.wait([impatient])
    assert impatient.cancelled()
    queue.going.set()
    assert await patient == [None]
    assert queue.sent == [["a", "b"]]
    failed = await asyncio.gather(
        *(merger.send("closed", entries(name), ordered=False) for name in "ab"),
        return_exceptions=True,
    )
    assert [type(each) for each in failed] == [ConnectionLostError] * 2
