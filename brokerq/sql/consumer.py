"""Takes deliveries from one lane of a database."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Generic

from brokerq.broker import Consumer, Delivery, Verdict
from brokerq.clock import Clock
from brokerq.errors import BrokerqError, ConnectionLostError
from brokerq.sql.bell import LaneBell
from brokerq.sql.holds import Hold, Holds
from brokerq.sql.lane import Claimed, Hint, LaneStatements, Settling


class LaneConsumer(Consumer, Generic[Hint]):
    """Holds up to `prefetch` deliveries, each for the lease."""

    def __init__(
        self,
        statements: LaneStatements[Hint],
        bell: LaneBell,
        *,
        lease: timedelta,
        prefetch: int,
        clock: Clock,
    ) -> None:
        self._statements = statements
        self._clock = clock
        self._lease = lease.total_seconds()
        self._holds = Holds(prefetch)
        self._claiming: set[asyncio.Future[Claimed[Hint]]] = set()
        self._giving_back: set[asyncio.Future[None]] = set()
        self._room = asyncio.Event()
        self._open = True
        self._pid = os.getpid()
        self._bell = bell
        self._turn = asyncio.Lock()
        statements.listen(bell)

    async def receive(self, limit: int) -> Sequence[Delivery]:
        """See `brokerq.broker.Consumer.receive`."""
        async with self._turn:
            while True:
                room = await self._wait_for_room()
                self._bell.clear()
                found, hint = await self._claim(min(limit, room))
                if found:
                    return found
                await self._bell.wait(self._statements.pause(hint))

    async def _wait_for_room(self) -> int:
        while True:
            self._require_open()
            now = self._clock.monotonic()
            room = self._holds.room(now)
            if room > 0:
                return room
            self._room.clear()
            first = self._holds.first_end()
            try:
                async with asyncio.timeout(None if first is None else max(0.001, first - now)):
                    await self._room.wait()
            except TimeoutError:
                continue

    async def _claim(self, limit: int) -> tuple[list[Delivery], Hint | None]:
        until = self._clock.monotonic() + self._lease
        claiming = self._statements.claim(limit)
        self._claiming.add(claiming)
        try:
            rows, hint = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # The statement may be under way; what it takes nobody is there to receive.
            claiming.add_done_callback(self._give_back_claimed)
            raise
        except BrokerqError:
            self._claiming.discard(claiming)
            raise
        self._require_open()  # closing hands back what was being claimed
        self._claiming.discard(claiming)
        deliver, holds = self._statements.deliver, self._holds
        return [deliver(row, holds, until) for row in rows], hint

    def _give_back_claimed(self, claiming: asyncio.Future[Claimed[Hint]]) -> None:
        self._claiming.discard(claiming)
        ids = _claimed_by(claiming)
        if ids:
            giving_back = self._statements.hand_back(ids)
            self._giving_back.add(giving_back)
            giving_back.add_done_callback(self._gave_back)

    def _gave_back(self, giving_back: asyncio.Future[None]) -> None:
        """Look at the error, so that it counts as seen: they come back when the lease ends."""
        self._giving_back.discard(giving_back)
        if not giving_back.cancelled():
            giving_back.exception()

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        """See `brokerq.broker.Consumer.settle`.

        After an error nobody can settle these again: they come back when the lease ends.
        """
        positions: dict[int, int] = {}
        settling: list[Settling] = []
        now = self._clock.monotonic()
        for position, (delivery, verdict) in enumerate(verdicts):
            hold = self._holds.take(delivery, now)
            if hold is not None:
                positions[hold.id] = position
                settling.append(Settling(hold.id, hold.order_key, verdict))
        results = [False] * len(verdicts)
        if not settling:
            return results
        try:
            done = await self._statements.settle(settling)
        finally:
            self._room.set()
        for id_ in done:
            results[positions[id_]] = True
        return results

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """See `brokerq.broker.Consumer.extend`."""
        now = self._clock.monotonic()
        until = now + self._lease
        holds = [self._holds.find(delivery, now) for delivery in deliveries]
        ids = [hold.id for hold in holds if hold is not None]
        kept = await self._statements.extend(ids) if ids else ()
        return [_extended(hold, kept, until) for hold in holds]

    async def close(self) -> None:
        """Hand back what is held; whoever waits to receive gets `ConnectionLostError`."""
        if not self._open:
            return
        self._open = False
        if self._pid != os.getpid():  # it is the parent's: what it holds and waits on, too
            return
        self._statements.ignore(self._bell)
        self._bell.ring(0)
        self._room.set()
        ids = self._holds.take_all()
        if self._claiming:
            done, _ = await asyncio.wait(self._claiming)
            for claiming in done:
                ids.extend(_claimed_by(claiming))
        if self._giving_back:
            await asyncio.wait(self._giving_back)
        if ids:
            await self._statements.hand_back(ids)

    def _require_open(self) -> None:
        if not self._open:
            raise ConnectionLostError("the consumer is closed, or its broker is: open a new one")


def _extended(hold: Hold | None, kept: Collection[int], until: float) -> bool:
    if hold is None or hold.id not in kept:
        return False
    hold.until = until
    return True


def _claimed_by(claiming: asyncio.Future[Claimed[Hint]]) -> list[int]:
    """Return the row ids that a claim has taken; none where it failed."""
    if claiming.cancelled() or claiming.exception() is not None:
        return []
    rows, _ = claiming.result()
    return [row[1] for row in rows]
