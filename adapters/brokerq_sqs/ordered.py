"""Takes deliveries from a FIFO queue: of a group one at a time, though SQS gives several at once.

The others wait here behind the first, their leases renewed with those that are held. They follow
when that one is removed; where it comes back they are given back after it, for the same time. SQS
keeps a group back while one of its messages is in flight or waits in place, so that the order holds
even if these calls are late; LocalStack hands out what is visible.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from brokerq.broker import Ack, Dead, Delivery, Lane, Release, Reschedule, Verdict
from brokerq.clock import Clock
from brokerq.duration import ZERO
from brokerq_sqs.calls import Calls
from brokerq_sqs.consumer import AT_ONCE, Source, SqsConsumer
from brokerq_sqs.deployment import Place
from brokerq_sqs.settling import Hold, Rules

_MANY = 1_000
_LAPSED = 0.0
_KEEP_SHARE = 6
"""What is ready and not taken is kept for this part of a lease."""


@dataclass(slots=True)
class _Turn:
    """What is here of one group.

    Attributes:
        first: Is held, or is ready to be.
    """

    first: Hold
    behind: deque[Delivery] = field(default_factory=deque[Delivery])


class _Waiting:
    """What is here and not held.

    Attributes:
        ready: What can be taken: firsts of their groups.
        settling: Firsts whose verdicts are being carried out.
    """

    def __init__(self) -> None:
        self.ready: deque[Delivery] = deque()
        self.settling: set[Hold] = set()
        self._turns: dict[str | None, _Turn] = {}

    def admit(self, delivery: Delivery) -> None:
        """Let a delivery wait for its turn."""
        hold = hold_of(delivery)
        turn = self._turns.get(hold.group)
        if turn is None:
            self._turns[hold.group] = _Turn(hold)
            self.ready.append(delivery)
        else:
            turn.behind.append(delivery)

    def is_first(self, hold: Hold) -> bool:
        """Tell whether others of its group wait for this one."""
        turn = self._turns.get(hold.group)
        return turn is not None and turn.first is hold

    def advance(self, hold: Hold) -> None:
        """Let the next of a group follow the one that was removed."""
        turn = self._turns.get(hold.group)
        if turn is None or turn.first is not hold:
            return
        if turn.behind:
            delivery = turn.behind.popleft()
            turn.first = hold_of(delivery)
            self.ready.append(delivery)
        else:
            del self._turns[hold.group]

    def stuck(self, held: Collection[Hold]) -> list[str | None]:
        """Return the groups whose first is nowhere: it comes back, or was lost."""
        here = {hold_of(delivery) for delivery in self.ready} | self.settling
        return [
            group
            for group, turn in self._turns.items()
            if turn.first not in here and turn.first not in held
        ]

    def give_up(self, group: str | None) -> list[Delivery]:
        """Forget a group; return what waits behind its first."""
        turn = self._turns.pop(group, None)
        return [] if turn is None else list(turn.behind)

    def unready(self) -> list[Delivery]:
        """Forget what is ready; return it, with what waits behind it."""
        ready, self.ready = self.ready, deque()
        behind = [each for first in ready for each in self.give_up(hold_of(first).group)]
        return [*ready, *behind]

    def all_behind(self) -> list[Delivery]:
        """Forget what waits behind others; return it."""
        behind = [delivery for turn in self._turns.values() for delivery in turn.behind]
        for turn in self._turns.values():
            turn.behind.clear()
        return behind

    def all(self) -> list[Delivery]:
        """Return everything."""
        behind = [delivery for turn in self._turns.values() for delivery in turn.behind]
        return [*self.ready, *behind]


def hold_of(delivery: Delivery) -> Hold:
    """Return the token of a delivery of this adapter."""
    hold = delivery.token
    assert isinstance(hold, Hold)  # noqa: S101 - this adapter's own
    return hold


class OrderedConsumer(SqsConsumer):
    """Holds of each group one delivery at a time."""

    def __init__(
        self,
        calls: Calls,
        lane: Lane,
        place: Place,
        dead: Place,
        *,
        rules: Rules,
        lease: timedelta,
        prefetch: int,
        clock: Clock,
        source: Callable[[SqsConsumer], Source],
    ) -> None:
        self._waiting = _Waiting()
        self._returns: set[asyncio.Task[None]] = set()
        self._expiry: asyncio.TimerHandle | None = None
        super().__init__(
            calls,
            lane,
            place,
            dead,
            rules=rules,
            lease=lease,
            prefetch=prefetch,
            clock=clock,
            source=source,
        )

    def _take(self, room: int) -> list[Delivery]:
        self._stay()
        waiting = self._waiting
        # All of it: what stayed in the source would not know what becomes of those before it.
        while fresh := self._source.take(_MANY):
            for delivery in fresh:
                waiting.admit(delivery)
        self._sweep()
        now = self._clock.monotonic()
        found: list[Delivery] = []
        while waiting.ready and len(found) < room:
            delivery = waiting.ready.popleft()
            hold = hold_of(delivery)
            if now < hold.until:
                self._held[hold] = delivery
                found.append(delivery)
            else:
                self._return(waiting.give_up(hold.group))
        self._expire_later()
        return found

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        waiting = self._waiting
        holds = [hold_of(delivery) for delivery, _ in verdicts]
        waiting.settling.update(holds)
        try:
            results = await super().settle(verdicts)
            for hold, (_, verdict), done in zip(holds, verdicts, results, strict=True):
                if done and isinstance(verdict, Ack | Dead):
                    waiting.advance(hold)
                elif waiting.is_first(hold):
                    delay = verdict.delay if isinstance(verdict, Reschedule | Release) else ZERO
                    self._return(waiting.give_up(hold.group), Release(delay=delay))
        finally:
            waiting.settling.difference_update(holds)
        self._sweep()
        self._expire_later()
        self.wake()
        return results

    async def _renew(self, holds: Sequence[Hold], now: float) -> None:
        behind = [hold_of(delivery) for delivery in self._waiting.all()]
        await super()._renew([*holds, *(hold for hold in behind if now < hold.until)], now)
        self._sweep()

    def _lose(self, hold: Hold) -> None:
        super()._lose(hold)
        hold.until = _LAPSED

    def _sweep(self) -> None:
        """Give back what waits behind a delivery that comes back or was lost."""
        for group in self._waiting.stuck(self._held):
            self._return(self._waiting.give_up(group))

    def _withdraw(self) -> None:
        super()._withdraw()
        self._return([*self._waiting.unready(), *self._waiting.all_behind()])

    def _stay(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _expire_later(self) -> None:
        if self._waiting.ready and self._expiry is None:
            keep = self._lease.total_seconds() / _KEEP_SHARE
            self._expiry = asyncio.get_running_loop().call_later(keep, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        self._return(self._waiting.unready())

    def _return(self, deliveries: Sequence[Delivery], verdict: Release = AT_ONCE) -> None:
        now = self._clock.monotonic()
        ours = [delivery for delivery in deliveries if now < hold_of(delivery).until]
        if ours:
            returning = asyncio.create_task(self.give_back(ours, verdict))
            self._returns.add(returning)
            returning.add_done_callback(self._returns.discard)

    async def _close(self) -> None:
        self._stay()
        self._return([*self._waiting.unready(), *self._waiting.all_behind()])
        await super()._close()
        while self._returns:
            await asyncio.wait(self._returns)
