"""Takes deliveries from one lane of the file."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from datetime import timedelta

from brokerq.broker import Ack, Consumer, Delivery, Lane, Verdict
from brokerq.errors import BrokerqError, ConnectionLostError
from brokerq_sqlite import deliveries as statements
from brokerq_sqlite.bell import LaneBell
from brokerq_sqlite.database import Database
from brokerq_sqlite.deliveries import Claim, ClaimedRow, Holder, Nothing, Settling
from brokerq_sqlite.topology import LaneRow
from brokerq_sqlite.wire import read_message

_LOOK_EVERY = 1.0
"""Seconds after which a consumer looks by itself, should a wake-up have been lost."""


class _Hold:
    """A message that is held: the token of its delivery."""

    __slots__ = ("id", "order_key", "until")

    def __init__(self, id: int, order_key: str | None, until: float) -> None:  # noqa: A002
        self.id = id
        self.order_key = order_key
        self.until = until


class SqliteConsumer(Consumer):
    """Holds up to `prefetch` deliveries, each for the lane's lease.

    Its messages bear a number that no other consumer ever has: whoever took one over since has
    another, and a statement for the first one finds nothing.
    """

    def __init__(
        self, database: Database, lane: Lane, row: LaneRow, *, lease: timedelta, prefetch: int
    ) -> None:
        self._database = database
        self._clock = database.clock
        self._lane = lane
        self._row = row
        self._lease = lease.total_seconds()
        self._prefetch = prefetch
        self._number = secrets.randbits(62)
        self._held: dict[int, _Hold] = {}
        self._claiming: set[asyncio.Future[list[ClaimedRow] | Nothing]] = set()
        self._reserved = 0
        self._room = asyncio.Event()
        self._open = True
        self._pid = os.getpid()
        self._bell = LaneBell(self._clock)
        self._turn = asyncio.Lock()
        database.wakeup.add(row.id, self._bell)

    async def receive(self, limit: int) -> Sequence[Delivery]:
        async with self._turn:
            while True:
                room = await self._wait_for_room()
                self._bell.clear()
                found = await self._claim(min(limit, room))
                if not isinstance(found, Nothing):
                    return found
                await self._bell.wait(self._pause(found))

    async def _wait_for_room(self) -> int:
        while True:
            self._require_open()
            self._drop_lapsed()
            room = self._prefetch - len(self._held) - self._reserved
            if room > 0:
                return room
            self._room.clear()
            first = min((hold.until for hold in self._held.values()), default=None)
            now = self._clock.monotonic()
            try:
                async with asyncio.timeout(None if first is None else max(0.001, first - now)):
                    await self._room.wait()
            except TimeoutError:
                continue

    def _drop_lapsed(self) -> None:
        now = self._clock.monotonic()
        for hold in [hold for hold in self._held.values() if hold.until <= now]:
            del self._held[hold.id]

    def _pause(self, nothing: Nothing) -> float:
        pause = _LOOK_EVERY
        if nothing.due is not None:
            pause = min(pause, (nothing.due - self._database.now()) / 1e6)
        if nothing.lapse is not None:
            pause = min(pause, nothing.lapse - self._clock.monotonic())
        return pause

    async def _claim(self, limit: int) -> list[Delivery] | Nothing:
        mono = self._clock.monotonic()
        until = mono + self._lease
        now = self._database.now()
        wanted = Claim(self._row.id, self._number, limit, now, mono, until)
        claiming = self._database.write(
            lambda transaction: statements.claim(transaction, wanted), durable=False
        )
        self._claiming.add(claiming)
        self._reserved += limit
        try:
            rows = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The transaction may be under way; what it takes nobody is there to receive.
            claiming.add_done_callback(self._give_back_claimed)
            raise
        except BrokerqError:
            self._claiming.discard(claiming)
            raise
        finally:
            self._reserved -= limit
        self._require_open()  # closing hands back what was being claimed
        self._claiming.discard(claiming)
        if isinstance(rows, Nothing):
            return rows
        return [self._deliver(row, until) for row in rows]

    def _deliver(self, row: ClaimedRow, until: float) -> Delivery:
        _, id_, order_key, job_id, count, headers, body = row
        hold = self._held[id_] = _Hold(id_, order_key, until)
        return Delivery(
            message=read_message(headers, body),
            lane=self._lane,
            id=job_id,
            token=hold,
            count=count,
            in_place=timedelta.max,
        )

    def _give_back_claimed(self, claiming: asyncio.Future[list[ClaimedRow] | Nothing]) -> None:
        self._claiming.discard(claiming)
        ids = _claimed_by(claiming)
        if ids:
            self._hand_back(ids).add_done_callback(_note_failure)

    def _hand_back(self, ids: list[int]) -> asyncio.Future[None]:
        lane, number = self._row.id, self._number
        return self._database.write(
            lambda transaction: statements.hand_back(transaction, lane, number, ids), durable=False
        )

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        taken: dict[int, tuple[int, _Hold]] = {}
        settling: list[Settling] = []
        now = self._clock.monotonic()
        for position, (delivery, verdict) in enumerate(verdicts):
            hold = self._take(delivery, now)
            if hold is not None:
                taken[hold.id] = position, hold
                settling.append(Settling(hold.id, hold.order_key, verdict))
        results = [False] * len(verdicts)
        if not settling:
            return results
        holder = Holder(lane=self._row.id, number=self._number, now=self._database.now())
        try:
            done = await self._database.write(
                lambda transaction: statements.settle(transaction, holder, settling),
                # Lost with the host, a message that was done with comes again: its record says so.
                durable=not all(isinstance(one.verdict, Ack) for one in settling),
            )
        except BrokerqError:  # nothing was settled: the leases go on
            self._held.update({hold.id: hold for _, hold in taken.values()})
            raise
        for id_ in done:
            results[taken[id_][0]] = True
        self._room.set()
        return results

    def _take(self, delivery: Delivery, now: float) -> _Hold | None:
        """Return the hold of a delivery that is still ours, which it then is no more."""
        hold = self._find(delivery, now)
        return None if hold is None else self._held.pop(hold.id)

    def _find(self, delivery: Delivery, now: float) -> _Hold | None:
        hold = delivery.token
        if not isinstance(hold, _Hold) or self._held.get(hold.id) is not hold:
            return None
        return hold if now < hold.until else None

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        now = self._clock.monotonic()
        holds = [self._find(delivery, now) for delivery in deliveries]
        ids = [hold.id for hold in holds if hold is not None]
        if not ids:
            return [False] * len(holds)
        until = now + self._lease
        number = self._number
        kept = await self._database.write(
            lambda transaction: statements.extend(transaction, number, ids, until), durable=False
        )
        for hold in holds:
            if hold is not None and hold.id in kept:
                hold.until = until
        return [hold is not None and hold.id in kept for hold in holds]

    async def close(self) -> None:
        """Hand back what is held; whoever waits to receive gets `ConnectionLostError`."""
        if not self._open:
            return
        self._open = False
        if self._pid != os.getpid():  # it is the parent's: what it holds and waits on, too
            return
        self._database.wakeup.remove(self._row.id, self._bell)
        self._bell.ring(0)
        self._room.set()
        ids = list(self._held)
        self._held.clear()
        if self._claiming:
            done, _ = await asyncio.wait(self._claiming)
            for claiming in done:
                ids.extend(_claimed_by(claiming))
        if ids:
            await self._hand_back(ids)

    def _require_open(self) -> None:
        if not self._open:
            raise ConnectionLostError("the consumer is closed, or its broker is: open a new one")


def _claimed_by(claiming: asyncio.Future[list[ClaimedRow] | Nothing]) -> list[int]:
    """Return the row ids that a claim has taken; none where it failed."""
    if claiming.cancelled() or claiming.exception() is not None:
        return []
    rows = claiming.result()
    return [] if isinstance(rows, Nothing) else [row[1] for row in rows]


def _note_failure(future: asyncio.Future[None]) -> None:
    """Look at the error, so that it counts as seen: the messages come back when the lease ends."""
    if not future.cancelled():
        future.exception()
