"""The consumer that SQL adapters share, over statements that do what a test says."""

import asyncio
import gc
from collections.abc import Collection, Sequence
from datetime import timedelta

import pytest

from brokerq.broker import Ack, Delivery, Lane
from brokerq.clock import SystemClock
from brokerq.errors import ConnectionLostError, StorageError
from brokerq.message import Message
from brokerq.sql.bell import LaneBell
from brokerq.sql.consumer import LaneConsumer
from brokerq.sql.holds import Holds
from brokerq.sql.lane import Claimed, ClaimedRow, LaneStatements, Settling

LANE = Lane(queue="emails")
LEASE = timedelta(minutes=5)


class Statements(LaneStatements[None]):
    """A lane of numbered messages; claims wait for `go`.

    Claiming and settling raise `trouble`, handing back raises `stuck`.
    """

    def __init__(self, messages: int) -> None:
        self.ready = list(range(messages))
        self.bells: list[LaneBell] = []
        self.go = asyncio.Event()
        self.go.set()
        self.claimed = asyncio.Event()
        self.gone: set[int] = set()
        self.handed_back = asyncio.Event()
        self.trouble: Exception | None = None
        self.stuck: Exception | None = None

    def claim(self, limit: int) -> asyncio.Future[Claimed[None]]:
        self.claimed.set()
        return asyncio.ensure_future(self._claim(limit))

    async def _claim(self, limit: int) -> Claimed[None]:
        await self.go.wait()
        if self.trouble is not None:
            raise self.trouble
        taken, self.ready = self.ready[:limit], self.ready[limit:]
        return [(0, id_, None, None, 1, "", b"") for id_ in taken], None

    def pause(self, hint: None) -> float:  # noqa: ARG002
        return 3_600.0

    def deliver(self, row: ClaimedRow, holds: Holds, until: float) -> Delivery:
        return Delivery(
            message=Message(headers={}, body=b""),
            lane=LANE,
            id=None,
            token=holds.add(row[1], None, until),
            count=1,
            in_place=timedelta.max,
        )

    async def settle(self, settling: Sequence[Settling]) -> Collection[int]:
        if self.trouble is not None:
            raise self.trouble
        return {one.id for one in settling} - self.gone

    async def extend(self, ids: Sequence[int]) -> Collection[int]:
        return set(ids) - self.gone

    def hand_back(self, ids: Sequence[int]) -> asyncio.Future[None]:
        return asyncio.ensure_future(self._hand_back(ids))

    async def _hand_back(self, ids: Sequence[int]) -> None:
        self.handed_back.set()
        if self.stuck is not None:
            raise self.stuck
        self.ready = sorted({*self.ready, *ids})
        for bell in self.bells:
            bell.ring(0)

    def listen(self, bell: LaneBell) -> None:
        self.bells.append(bell)

    def ignore(self, bell: LaneBell) -> None:
        self.bells.remove(bell)


def consumer_of(statements: Statements, *, prefetch: int = 2) -> LaneConsumer[None]:
    bell = LaneBell(slack=0.0)
    return LaneConsumer(statements, bell, lease=LEASE, prefetch=prefetch, clock=SystemClock())


async def cancel(waiting: asyncio.Task[Sequence[Delivery]]) -> None:
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_no_more_is_claimed_than_there_is_room_for() -> None:
    statements = Statements(5)
    consumer = consumer_of(statements)
    held = [*await consumer.receive(1), *await consumer.receive(10)]
    assert [len(held), statements.ready] == [2, [2, 3, 4]]
    waiting = asyncio.create_task(consumer.receive(10))
    assert await consumer.settle([(held[0], Ack())]) == [True]
    assert len(await waiting) == 1
    assert statements.ready == [3, 4]


async def test_what_the_database_does_not_find_is_lost() -> None:
    statements = Statements(2)
    consumer = consumer_of(statements)
    held = await consumer.receive(2)
    statements.gone = {0}
    assert await consumer.extend(held) == [False, True]
    assert await consumer.settle([(each, Ack()) for each in held]) == [False, True]
    assert await consumer.settle([(each, Ack()) for each in held]) == [False, False]
    assert await consumer.extend(held) == [False, False]


async def test_what_could_not_be_settled_leaves_room_for_others() -> None:
    statements = Statements(4)
    consumer = consumer_of(statements)
    held = await consumer.receive(2)
    waiting = asyncio.create_task(consumer.receive(2))
    statements.trouble = StorageError("the disk is full")
    with pytest.raises(StorageError):
        await consumer.settle([(each, Ack()) for each in held])
    statements.trouble = None
    assert len(await waiting) == 2


async def test_a_claim_that_fails_says_so_and_the_next_may_succeed() -> None:
    statements = Statements(1)
    consumer = consumer_of(statements)
    statements.trouble = ConnectionLostError("the server is gone")
    with pytest.raises(ConnectionLostError):
        await consumer.receive(1)
    statements.trouble = None
    assert len(await consumer.receive(1)) == 1


async def test_what_a_cancelled_claim_takes_is_handed_back() -> None:
    statements = Statements(2)
    consumer = consumer_of(statements)
    statements.go.clear()
    waiting = asyncio.create_task(consumer.receive(2))
    await statements.claimed.wait()
    await cancel(waiting)
    statements.go.set()
    assert len(await consumer.receive(2)) == 2


async def test_closing_hands_back_what_is_held_and_what_is_being_claimed() -> None:
    statements = Statements(3)
    consumer = consumer_of(statements, prefetch=3)
    held = await consumer.receive(1)
    statements.claimed.clear()
    statements.go.clear()
    waiting = asyncio.create_task(consumer.receive(1))
    await statements.claimed.wait()
    closing = asyncio.create_task(consumer.close())
    await asyncio.sleep(0)
    statements.go.set()
    await closing
    with pytest.raises(ConnectionLostError, match="closed"):
        await waiting
    assert [statements.ready, statements.bells] == [[0, 1, 2], []]
    assert await consumer.settle([(held[0], Ack())]) == [False]


async def test_closing_ends_the_wait_for_messages_and_twice_is_harmless() -> None:
    consumer = consumer_of(Statements(0))
    waiting = asyncio.create_task(consumer.receive(1))
    await asyncio.sleep(0)
    await consumer.close()
    await consumer.close()
    with pytest.raises(ConnectionLostError, match="closed"):
        await waiting


async def test_closing_ends_the_wait_for_room() -> None:
    statements = Statements(3)
    consumer = consumer_of(statements)
    await consumer.receive(2)
    waiting = asyncio.create_task(consumer.receive(1))
    await asyncio.sleep(0)
    await consumer.close()
    with pytest.raises(ConnectionLostError, match="closed"):
        await waiting
    assert statements.ready == [0, 1, 2]


async def test_a_hand_back_that_fails_is_left_to_the_lease() -> None:
    """Nobody waits for it; an error that nobody looks at would be complained about."""
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    statements = Statements(1)
    statements.stuck = StorageError("the disk is full")
    consumer = consumer_of(statements)
    statements.go.clear()
    waiting = asyncio.create_task(consumer.receive(1))
    await statements.claimed.wait()
    await cancel(waiting)
    statements.go.set()
    await statements.handed_back.wait()
    await consumer.close()
    gc.collect()
    assert [complaints, statements.ready] == [[], []]
