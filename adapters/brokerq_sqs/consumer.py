"""Takes deliveries from one queue, and settles them by our own clock."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from brokerq.broker import Consumer, Delivery, Lane, Release, Verdict
from brokerq.clock import Clock
from brokerq.errors import BodyTooLargeError, BrokerqError, ConnectionLostError
from brokerq_sqs.calls import Calls
from brokerq_sqs.carrier import Carrier, Work
from brokerq_sqs.deployment import Place
from brokerq_sqs.settling import IN_PLACE, MARGIN, MAX_HOLD, Crowd, Hold, Rules, Step
from brokerq_sqs.topology import level_of
from brokerq_sqs.wire import seconds, unpack

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

logger = logging.getLogger("brokerq.sqs")
AT_ONCE = Release()


class Source(Protocol):
    """Where a consumer's deliveries come from.

    Attributes:
        error: Why no more will come, if so.
    """

    error: BrokerqError | None

    @abstractmethod
    def take(self, limit: int) -> list[Delivery]:
        """Return up to so many that are here."""

    @abstractmethod
    def ask(self, count: int) -> None:
        """See that so many come."""

    @abstractmethod
    def rest(self) -> None:
        """Learn that nobody waits at the moment."""

    @abstractmethod
    def withdraw(self) -> None:
        """Learn that nobody wants any more until somebody asks again."""

    @abstractmethod
    async def close(self) -> None:
        """Give back what is here or on its way; nobody will ask again."""


class SqsConsumer(Consumer):
    """Holds up to `prefetch` deliveries, each for the lane's lease.

    SQS deletes what is no longer ours just as well, so that past its lease a delivery is not even
    asked about.
    """

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
        self._calls = calls
        self._lane = lane
        self._place = place
        self._rules = rules
        self._lease = lease
        self._prefetch = prefetch
        self._clock = clock
        self._carrier = Carrier(calls, place=place, dead=dead, clock=clock)
        self._source = source(self)
        self._held: dict[Hold, Delivery] = {}
        self._crowd = Crowd()
        self._changed = asyncio.Event()
        self._turn = asyncio.Lock()
        self._closing: asyncio.Future[None] | None = None

    async def receive(self, limit: int) -> Sequence[Delivery]:
        async with self._turn:
            try:
                while True:
                    self._require_open()
                    self._drop_lapsed()
                    room = min(limit, self._prefetch - len(self._held))
                    found = self._take(room)
                    if found:
                        self._source.rest()
                        return found
                    if self._source.error is not None:
                        raise self._source.error
                    self._changed.clear()
                    self._source.ask(room)
                    await self._wait()
            except asyncio.CancelledError:
                self._withdraw()
                raise

    def _take(self, room: int) -> list[Delivery]:
        now = self._clock.monotonic()
        found: list[Delivery] = []
        for delivery in self._source.take(room):
            hold = delivery.token
            if isinstance(hold, Hold) and now < hold.until:
                self._held[hold] = delivery
                found.append(delivery)
        return found

    def _withdraw(self) -> None:
        self._source.withdraw()

    async def _wait(self) -> None:
        """Wait for a message, for room, or until a lease ends and makes room."""
        first = min((hold.until for hold in self._held), default=None)
        now = self._clock.monotonic()
        try:
            async with asyncio.timeout(None if first is None else max(0.001, first - now)):
                await self._changed.wait()
        except TimeoutError:
            return

    def _drop_lapsed(self) -> None:
        now = self._clock.monotonic()
        self._held = {hold: each for hold, each in self._held.items() if now < hold.until}

    def wake(self) -> None:
        """Say that something has changed for whoever waits to receive."""
        self._changed.set()

    def deliver(self, raw: MessageTypeDef, since: float) -> Delivery:
        """Return what was received as a delivery; `since`: when it was asked for."""
        said = raw.get("Attributes") or {}
        receives = int(said.get("ApproximateReceiveCount", "1"))
        message, id_ = unpack(raw)
        origin = said.get("DeadLetterQueueSourceArn")
        lane = self._lane if origin is None else replace(self._lane, level=level_of(origin))
        return Delivery(
            message=message,
            lane=lane,
            id=id_ or None,
            token=Hold(
                raw.get("ReceiptHandle", ""),
                since=since,
                until=since + self._lease.total_seconds(),
                receives=receives,
                group=said.get("MessageGroupId"),
            ),
            count=receives,
            in_place=IN_PLACE,
        )

    async def give_back(self, deliveries: Sequence[Delivery], verdict: Release = AT_ONCE) -> None:
        """Let what nobody has received come back, at once or later."""
        now = self._clock.monotonic()
        work = [self._returning(each, verdict, now) for each in deliveries]
        await self._carrier.carry_out(work)

    def _returning(self, delivery: Delivery, verdict: Release, now: float) -> Work:
        hold = delivery.token
        assert isinstance(hold, Hold)  # noqa: S101 - this adapter's own
        step = self._rules.step(delivery, hold, verdict, now=now)
        return hold, step or Step(visibility=0)

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        now = self._clock.monotonic()
        work: dict[int, Work] = {}
        for position, (delivery, verdict) in enumerate(verdicts):
            hold = self._find(delivery, now)
            if hold is None:
                continue
            del self._held[hold]
            step = self._plan(delivery, hold, verdict, now)
            if step is not None:
                work[position] = hold, step
        self._changed.set()
        results = [False] * len(verdicts)
        done = await self._carrier.carry_out(list(work.values())) if work else []
        for position, ok in zip(work, done, strict=True):
            results[position] = ok
        return results

    def _plan(self, delivery: Delivery, hold: Hold, verdict: Verdict, now: float) -> Step | None:
        try:
            crowded = self._crowd.is_full(now)
            step = self._rules.step(delivery, hold, verdict, now=now, crowded=crowded)
        except BodyTooLargeError as exc:
            logger.error("message %s cannot be replaced: %s", delivery.id, exc)  # noqa: TRY400
            return None
        if step is not None and step.visibility:
            self._crowd.add(now + step.visibility)
        if step is None:
            logger.error(
                "message %s of the ordered queue %s cannot be replaced by a copy, which would lose "
                "its place: ordered queues at sqs:// need a store",
                delivery.id,
                self._place.name,
            )
        return step

    def _find(self, delivery: Delivery, now: float) -> Hold | None:
        hold = delivery.token
        if not isinstance(hold, Hold) or hold not in self._held:
            return None
        return hold if now < hold.until else None

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        now = self._clock.monotonic()
        holds = [self._find(delivery, now) for delivery in deliveries]
        await self._renew([hold for hold in holds if hold is not None], now)
        return [hold is not None and hold in self._held for hold in holds]

    async def _renew(self, holds: Sequence[Hold], now: float) -> None:
        """Renew leases; what cannot be renewed is held no more."""
        longest = (MAX_HOLD - MARGIN).total_seconds()
        kept = [hold for hold in holds if now - hold.since < longest]
        for hold in holds:
            if now - hold.since >= longest:
                self._lose(hold)
        if not kept:
            return
        visibility = seconds(self._lease)
        changes = [(hold.handle, visibility) for hold in kept]
        within = min(hold.until for hold in kept) - now
        outcomes = await self._calls.change_visibility(self._place.url, changes, within=within)
        for hold, failure in zip(kept, outcomes, strict=True):
            if failure is None:
                hold.until = now + self._lease.total_seconds()
            elif not failure.transient:
                self._lose(hold)
        if all(failure is not None and failure.transient for failure in outcomes):
            raise ConnectionLostError(f"leases of {self._place.name} could not be extended")

    def _lose(self, hold: Hold) -> None:
        self._held.pop(hold, None)

    async def close(self) -> None:
        """Hand back what is held; whoever waits to receive gets `ConnectionLostError`."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        now = self._clock.monotonic()
        held = [delivery for hold, delivery in self._held.items() if now < hold.until]
        self._held = {}
        self._changed.set()
        await asyncio.gather(self._source.close(), self.give_back(held))

    def _require_open(self) -> None:
        if self._closing is not None:
            raise ConnectionLostError("the consumer is closed, or its broker is: open a new one")
