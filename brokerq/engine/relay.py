"""Publishes what waits in the outbox, once it is due: beside every worker, or by itself."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta

from brokerq.broker import Lane
from brokerq.duration import within
from brokerq.errors import BrokerqError
from brokerq.outbox import Outbox, Taken
from brokerq.runtime import Runtime
from brokerq.sending import Refusal, send

logger = logging.getLogger("brokerq.relay")

LEASE = timedelta(seconds=30)
AHEAD = timedelta(seconds=10)
"""So much before it is due a message is published, where the broker can keep it until then."""
BATCH = 100
POLL = 1.0
"""Seconds after which a relay looks by itself: nobody tells it of what is committed elsewhere."""
FIRST_BACKOFF = 1.0
LONGEST_OUTAGE_BACKOFF = 30.0
LONGEST_LANE_BACKOFF = 300.0
ALARM = 30.0
"""Seconds that a message may be overdue without anybody being told, and between two warnings."""
GIVE_WAY = 5.0


class Relay:
    """One of any number of relays of an app; all on the engine's loop.

    Attributes:
        sent: How many messages it has published.
    """

    def __init__(self, runtime: Runtime, outbox: Outbox) -> None:
        self.sent = 0
        self._broker = runtime.broker
        self._outbox = outbox
        self._owner = f"{runtime.owner}/{runtime.new_id()}"  # there may be several in a process
        self._random = runtime.random
        self._ahead = within(AHEAD, runtime.broker.capabilities.max_delay)
        self._loop = asyncio.get_running_loop()
        self._backoff = FIRST_BACKOFF
        self._lanes: dict[Lane, tuple[float, float]] = {}
        self._told_at = self._loop.time()
        self._stop = asyncio.Event()

    def request_stop(self) -> None:
        """Ask `main` to end; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._stop.set)

    async def main(self, *, until_empty: bool) -> int:
        """Run until asked to stop, or until nothing is left; return how many were published."""
        stop = asyncio.create_task(self._stop.wait())
        running = asyncio.create_task(self.run(until_empty=until_empty))
        await asyncio.wait([stop, running], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if running.done():
            running.result()
        else:
            running.cancel()
            await asyncio.wait([running])
        return self.sent

    async def run(self, *, until_empty: bool = False) -> None:
        """Publish what is due, for ever, or until nothing is left, what is due later included.

        Cancelled, it ends when what it has taken is published, at the latest after `GIVE_WAY`.
        """
        while True:
            turn = asyncio.create_task(self._turn(), name="brokerq relay")
            try:
                pause = await asyncio.shield(turn)
            except asyncio.CancelledError:
                await asyncio.wait([turn], timeout=GIVE_WAY)
                turn.cancel()
                raise
            if pause and until_empty and await self._is_empty():
                return
            await self._tell_if_overdue()
            await asyncio.sleep(pause)

    async def _turn(self) -> float:
        """Publish one batch, if there is one; return for how many seconds to pause."""
        try:
            pause = POLL * (0.5 + self._random.random())
            wait = await self._outbox.next_due(ahead=self._ahead)
            if wait is None or wait:
                return pause if wait is None else min(pause, wait.total_seconds())
            taken = await self._outbox.take(
                owner=self._owner, lease=LEASE, ahead=self._ahead, limit=BATCH
            )
            if not taken:  # another relay was quicker
                return pause
            refused = await send(self._broker, [each.outgoing for each in taken])
            await self._settle(taken, refused)
        except BrokerqError as exc:  # what was taken comes again when its lease has lapsed
            return self._back_off(exc)
        outage = next((each.error for each in refused.values() if each.is_outage), None)
        if outage is not None:
            return self._back_off(outage)
        self._backoff = FIRST_BACKOFF
        return 0.0

    def _back_off(self, error: BrokerqError) -> float:
        backoff, self._backoff = self._backoff, min(self._backoff * 2, LONGEST_OUTAGE_BACKOFF)
        if backoff == FIRST_BACKOFF:
            logger.warning("the outbox cannot be published now, it is tried again: %s", error)
        return backoff * (0.5 + self._random.random())

    async def _settle(self, taken: Sequence[Taken], refused: Mapping[int, Refusal]) -> None:
        """Remove what the broker has, put back what it surely has not; leave what nobody knows."""
        sent = [each for place, each in enumerate(taken) if place not in refused]
        for each in sent:
            self._lanes.pop(each.outgoing.lane, None)
        back: defaultdict[float, list[int]] = defaultdict(list)
        for place, refusal in refused.items():
            if not refusal.unknown:
                lane = taken[place].outgoing.lane
                delay = 0.0 if refusal.is_outage else self._back_off_from(lane, refusal.error)
                back[delay].append(taken[place].id)
        if sent:
            await self._outbox.sent([each.id for each in sent], owner=self._owner)
            self.sent += len(sent)
        for delay, ids in back.items():
            pause = timedelta(seconds=delay)
            await self._outbox.put_back(ids, owner=self._owner, delay=pause)

    def _back_off_from(self, lane: Lane, error: BrokerqError) -> float:
        """Return how long messages of a lane that takes none are left alone; others go on."""
        now = self._loop.time()
        backoff, until = self._lanes.get(lane, (FIRST_BACKOFF / 2, now))
        if now >= until:
            backoff = min(backoff * 2, LONGEST_LANE_BACKOFF)
            self._lanes[lane] = backoff, now + backoff
            logger.warning(
                "messages of the outbox for queue %r, level %r, are refused and tried again in "
                "%.0f s: %s",
                lane.queue,
                lane.level,
                backoff,
                error,
            )
        return backoff

    async def _is_empty(self) -> bool:
        try:
            return not (await self._outbox.outbox()).waiting
        except BrokerqError:  # the next turn says so
            return False

    async def _tell_if_overdue(self) -> None:
        """Warn at intervals while messages are late: nobody else would notice."""
        now = self._loop.time()
        if now < self._told_at + ALARM:
            return
        self._told_at = now
        try:
            stats = await self._outbox.outbox()
        except BrokerqError as exc:
            logger.warning("cannot tell how the outbox stands: %s", exc)
            return
        if stats.overdue >= timedelta(seconds=ALARM):
            logger.warning(
                "the outbox is late: %d messages should be in the broker by now, the oldest "
                "for %.0f s",
                stats.due,
                stats.overdue.total_seconds(),
            )
