"""Takes deliveries from one lane.

RabbitMQ pushes. To leave to other workers what this one does not get to, a consumer asks for as
much as its worker wants to receive, and for more where it wants more often; what is pushed and not
received for a while goes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from datetime import datetime

from brokerq.broker import Ack, Consumer, Delivery, Lane, Verdict
from brokerq.clock import Clock
from brokerq.duration import ZERO
from brokerq.errors import ConnectionLostError
from brokerq_rabbitmq import parcels
from brokerq_rabbitmq.census import Share
from brokerq_rabbitmq.client import Channel
from brokerq_rabbitmq.errors import consumer_closed
from brokerq_rabbitmq.publisher import Parcel, Publisher
from brokerq_rabbitmq.settling import plan_acks
from brokerq_rabbitmq.topology import DELIVERY_LIMIT, Names
from brokerq_rabbitmq.window import Window
from brokerq_rabbitmq.wire import Received, read_count, read_message

logger = logging.getLogger("brokerq.rabbitmq")

_IDLE = 1.0
"""Seconds without a receive after which what was pushed goes back."""
_NEAR = 5
"""A message this near to the delivery limit is replaced by a copy instead of being given back."""
_PENALTY = 1.0
"""Seconds before a message comes back whose follow-up the broker did not take."""


class _Hold:
    """A message that is held: the token of its delivery.

    Attributes:
        busy: A verdict is being carried out.
    """

    __slots__ = ("busy", "count", "received")

    def __init__(self, received: Received, count: int) -> None:
        self.received = received
        self.count = count
        self.busy = False


class RabbitConsumer(Consumer):
    """Holds up to `prefetch` deliveries for as long as its channel lives.

    All tags are of this one channel, so nothing of an older connection can be settled here.

    Args:
        channel: For this consumer alone.
        nack_counts: Whether what is given back is nearer to the delivery limit.
    """

    def __init__(
        self,
        channel: Channel,
        lane: Lane,
        queue: str,
        *,
        prefetch: int,
        names: Names,
        publisher: Publisher,
        clock: Clock,
        nack_counts: bool,
    ) -> None:
        self._channel = channel
        self._lane = lane
        self._queue = queue
        self._prefetch = prefetch
        self._names = names
        self._publisher = publisher
        self._clock = clock
        self._most_returns = DELIVERY_LIMIT - _NEAR if nack_counts else None
        self._loop = asyncio.get_running_loop()
        self._lost: BaseException | None = None
        self._buffer: deque[Received] = deque()
        self._held: dict[int, _Hold] = {}
        self._bell = asyncio.Event()
        self._turn = asyncio.Lock()
        self._window = Window()
        self._receiving = 0
        self._idle: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        channel.on_end(self._end)

    @property
    def queue(self) -> str:
        """The brokerq queue that this is a consumer of."""
        return self._lane.queue

    @property
    def share(self) -> Share:
        """What this consumer has."""
        return Share(held=len(self._held), unread=len(self._buffer))

    async def drop_unread(self) -> int:
        """Remove what nobody has received yet, for good; return how many."""
        unread = list(self._buffer)
        self._buffer.clear()
        for received in unread:
            self._channel.ack(received.tag, multiple=False)
        return len(unread)

    async def start(self) -> None:
        """Make sure that the queue is there. Raises `ChannelRefusedError`."""
        await self._channel.count(self._queue)

    async def receive(self, limit: int) -> Sequence[Delivery]:
        self._receiving += 1
        self._stop_timer()
        try:
            while not self._buffer:
                self._require_open()
                if not self._has_asked(limit):
                    # Beside this call: if that is cancelled, the steps are still taken to the end.
                    await asyncio.wait([self._begin(self._ask(limit))])
                if not self._buffer and self._lost is None:
                    self._bell.clear()
                    await self._bell.wait()
            self._require_open()
        except asyncio.CancelledError:
            self._begin(self._pause())
            raise
        finally:
            self._receiving -= 1
        if not self._receiving:
            self._idle = self._loop.call_later(_IDLE, lambda: self._begin(self._pause()))
        buffer = self._buffer
        return [self._deliver(buffer.popleft()) for _ in range(min(limit, len(buffer)))]

    def _deliver(self, received: Received) -> Delivery:
        count = read_count(received.headers)
        hold = self._held[received.tag] = _Hold(received, count)
        return Delivery(
            message=read_message(received),
            lane=self._lane,
            id=received.id,
            token=hold,
            count=count,
            in_place=ZERO,
        )

    async def _ask(self, limit: int) -> None:
        """Have the broker push as much as is wanted, where it was not asked for that much."""
        async with self._turn:
            if self._has_asked(limit) or self._lost is not None:
                return
            if self._window.size:
                await self._channel.cancel(self._window.tag)
            size = self._window.next_size(limit, self._loop.time())
            room = self._prefetch - len(self._held) - len(self._buffer)
            self._window.open(min(size, room), self._loop.time())
            if room <= 0:
                return
            await self._channel.consume(
                self._queue,
                tag=self._window.tag,
                prefetch=self._window.size,
                on_message=self._push,
                on_cancel=self._end,
            )

    def _has_asked(self, limit: int) -> bool:
        room = self._prefetch - len(self._held)
        return bool(self._buffer) or room <= 0 or self._window.suffices(min(limit, room))

    def _push(self, received: Received) -> None:
        self._window.used += 1
        self._window.last = received.tag
        self._buffer.append(received)
        self._bell.set()

    async def _pause(self) -> None:
        """Stop the broker from pushing, and give back what nobody has received."""
        async with self._turn:
            if self._is_wanted() or self._lost is not None:
                return
            if self._window.size:
                self._window.size = 0
                await self._channel.cancel(self._window.tag)
            if self._is_wanted():  # again, meanwhile
                self._bell.set()
                return
            unread = list(self._buffer)
            self._buffer.clear()
            await self._give_back(unread)

    def _is_wanted(self) -> bool:
        return self._receiving > 0

    async def _give_back(self, unread: Sequence[Received]) -> None:
        worn = [each for each in unread if self._is_worn(read_count(each.headers))]
        fresh = {each.tag for each in worn}
        for each in unread:
            if each.tag not in fresh:
                self._channel.nack(each.tag)
        if worn:
            outcome = await self._publisher.send([self._copy(each) for each in worn])
            for n, each in enumerate(worn):
                if outcome.taken(n):
                    self._channel.ack(each.tag, multiple=False)
                else:
                    self._channel.nack(each.tag)

    def _is_worn(self, count: int) -> bool:
        """Tell whether one return more may make the broker take it for a poison message."""
        return self._most_returns is not None and count >= self._most_returns

    def _copy(self, received: Received) -> Parcel:
        return parcels.copy(self._names, self._lane, received)

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        done: list[bool] = [False] * len(verdicts)
        acks: list[_Hold] = []
        returns: list[_Hold] = []
        followed: list[tuple[int, _Hold, Parcel]] = []
        now = self._clock.now()
        for position, (delivery, verdict) in enumerate(verdicts):
            hold = self._find(delivery)
            if hold is None:
                continue
            hold.busy = True
            parcel = self._follow_up(hold, verdict, now)
            if parcel is not None:
                followed.append((position, hold, parcel))
                continue
            done[position] = True
            (acks if isinstance(verdict, Ack) else returns).append(hold)
        try:
            self._answer(acks, returns)
            if followed:
                await self._settle_followed(followed, done)
        except ConnectionLostError as exc:
            self._end(exc)
        if self._lost is not None:
            return [False] * len(verdicts)
        return done

    def _follow_up(self, hold: _Hold, verdict: Verdict, now: datetime) -> Parcel | None:
        parcel = parcels.follow_up(self._names, self._lane, hold.received, verdict, now)
        if parcel is None and not isinstance(verdict, Ack) and self._is_worn(hold.count):
            return self._copy(hold.received)
        return parcel

    async def _settle_followed(
        self, followed: Sequence[tuple[int, _Hold, Parcel]], done: list[bool]
    ) -> None:
        """Remove the originals whose follow-up is confirmed; the others come back in a while."""
        try:
            outcome = await self._publisher.send([parcel for _, _, parcel in followed])
        except BaseException:
            for _, hold, _ in followed:
                self._return_later(hold, _PENALTY)
            raise
        acks: list[_Hold] = []
        for n, (position, hold, parcel) in enumerate(followed):
            if outcome.taken(n):
                done[position] = True
                acks.append(hold)
            else:
                why = outcome.failed.get(n) or outcome.unknown.get(n)
                logger.warning(
                    "what follows %s could not be sent to %s: %s", parcel.id, parcel.key, why
                )
                self._return_later(hold, _PENALTY)
        self._answer(acks, [])

    def _answer(self, acks: Sequence[_Hold], returns: Sequence[_Hold]) -> None:
        """Say what was settled: what goes back first, for an ack may take in all before it."""
        if self._lost is not None:
            return
        for hold in returns:
            self._forget(hold)
            self._channel.nack(hold.received.tag)
        for hold in acks:
            self._forget(hold)
        if acks:
            first = next(iter(self._held), None)
            plan = plan_acks([hold.received.tag for hold in acks], first)
            if plan.up_to is not None:
                self._channel.ack(plan.up_to, multiple=True)
            for tag in plan.singles:
                self._channel.ack(tag, multiple=False)
        self._bell.set()  # there is room again

    def _forget(self, hold: _Hold) -> None:
        del self._held[hold.received.tag]
        self._window.freed(hold.received.tag)

    def return_later(self, delivery: Delivery, delay: float) -> bool:
        """Give a delivery back after so many seconds; False: it is not held."""
        hold = self._find(delivery)
        if hold is None:
            return False
        hold.busy = True
        self._return_later(hold, delay)
        return True

    def _return_later(self, hold: _Hold, delay: float) -> None:
        async def give_back() -> None:
            await asyncio.sleep(delay)
            self._answer([], [hold])

        self._begin(give_back())

    def received(self, delivery: Delivery) -> Received | None:
        """Return a delivery as the broker sent it; None: it is not held."""
        hold = self._find(delivery)
        return None if hold is None else hold.received

    def _find(self, delivery: Delivery) -> _Hold | None:
        hold = delivery.token
        if self._lost is not None or not isinstance(hold, _Hold) or hold.busy:
            return None
        return hold if self._held.get(hold.received.tag) is hold else None

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        return [self._find(delivery) is not None for delivery in deliveries]

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run something beside the calls; what goes wrong ends the consumer, and they say so."""
        task = self._loop.create_task(self._attempt(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _attempt(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except ConnectionLostError as exc:
            self._end(exc)
        except Exception as exc:
            logger.exception("the consumer of %s has failed", self._queue)
            self._end(exc)

    async def close(self) -> None:
        """Hand back what is held; whoever waits to receive gets `ConnectionLostError`."""
        if self._lost is None:
            held = [hold.received for hold in self._held.values() if not hold.busy]
            unread = [*held, *self._buffer]
            self._end(consumer_closed())
            if any(self._is_worn(read_count(each.headers)) for each in unread):
                with suppress(ConnectionLostError):
                    await self._give_back(unread)
        for task in list(self._tasks):
            task.cancel()
        await self._channel.close()

    def _end(self, error: BaseException) -> None:
        """Note that nothing that was held is ours any more."""
        if self._lost is None:
            self._lost = error
            self._held.clear()
            self._buffer.clear()
            self._stop_timer()
            self._bell.set()

    def _stop_timer(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _require_open(self) -> None:
        if self._lost is not None:
            raise ConnectionLostError(str(self._lost)) from self._lost
