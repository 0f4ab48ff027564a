"""What the broker gave up on by itself: a dead letter like any other, with the reason."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import cast

from brokerq.broker import (
    Ack,
    Backstop,
    Delivery,
    Lane,
    Outgoing,
    Release,
    Reschedule,
    Verdict,
)
from brokerq.duration import ZERO
from brokerq.engine.arrival import Arrival, begin, claim_for, read_arrival
from brokerq.engine.lanes import FIRST_BACKOFF, LONGEST_BACKOFF, LaneReader
from brokerq.engine.run import Run
from brokerq.errors import OUTAGE, BrokerqError
from brokerq.outcome import Unrunnable
from brokerq.record import ClaimAnswer, Claimed
from brokerq.records import unrecorded
from brokerq.runtime import Runtime
from brokerq.settlement import in_reach, settle_unclaimed

logger = logging.getLogger("brokerq.worker")

HELD = 20
GIVEN_UP = Unrunnable(
    reason="crash_loop",
    detail="the broker gave up on it: it was delivered too often and never settled",
)


class Salvage:
    """Judges one queue's; beside the jobs, in none of their slots.

    A job that waits or was lost ends dead here, as it would if its crash budget were spent. One
    that has ended or moved on gets what its record says, and one that runs is looked at again when
    its lease may have ended. While the store is away everything waits.

    Attributes:
        reader: To be started, renewed and closed as those of the lanes.
    """

    def __init__(
        self,
        runtime: Runtime,
        queue: str,
        *,
        lease: timedelta,
        running: dict[str, Run],
        ended: Callable[[Sequence[Run]], None],
    ) -> None:
        self._runtime = runtime
        self._lease = lease
        self._running = running
        self._ended = ended
        self._wake = asyncio.Event()
        self._judging = asyncio.Lock()
        self.reader = LaneReader(
            partial(cast("Backstop", runtime.broker).salvage, queue, prefetch=HELD),
            Lane(queue=queue),
            what=f"what the broker gave up on in {queue}",
            room=lambda reader: HELD - len(reader.buffer),
            on_delivery=self._wake.set,
            random=runtime.random,
        )

    @property
    def idle(self) -> bool:
        """Whether nothing is held that is not judged."""
        return not self._judging.locked() and not self.reader.buffer

    async def judge_for_ever(self) -> None:
        """Judge what comes; never ends by itself."""
        backoff = FIRST_BACKOFF
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self.reader.take(HELD):
                try:
                    async with self._judging:
                        await self._judge(batch)
                except OUTAGE as exc:
                    self.reader.buffer.extendleft(reversed(batch))
                    logger.warning("the store cannot be reached, dead letters wait: %s", exc)
                    await asyncio.sleep(backoff * (0.5 + self._runtime.random.random()))
                    backoff = min(backoff * 2, LONGEST_BACKOFF)
                else:
                    backoff = FIRST_BACKOFF
            self.reader.nudge()

    async def stop(self) -> None:
        """Take nothing more; returns when what was taken is judged or given back."""
        await self.reader.drain()
        async with self._judging:
            pass

    async def _judge(self, batch: Sequence[Delivery]) -> None:
        runtime = self._runtime
        now = runtime.clock.now()
        verdicts: list[tuple[Delivery, Verdict]] = []
        arrivals: dict[str, Arrival] = {}
        for delivery in batch:
            arrival = read_arrival(
                self.reader, delivery, runtime.registry, new_id=runtime.new_id, now=now
            )
            if arrival.head.id in arrivals or arrival.head.id in self._running:
                later = self._in_reach(arrival, Release(delay=self._lease), now)
                verdicts.append((delivery, later))
            else:
                arrivals[arrival.head.id] = arrival
        ended: list[Run] = []
        answers = await self._claim(tuple(arrivals.values()))
        for arrival, answer in zip(arrivals.values(), answers, strict=True):
            if isinstance(answer, Claimed):
                ended.append(self._end(arrival, answer))
            else:
                verdict = await self._carry_out(arrival, answer, now)
                verdicts.append((arrival.delivery, verdict))
        self._ended(ended)
        await self.reader.settle(verdicts)

    async def _claim(self, arrivals: Sequence[Arrival]) -> Sequence[ClaimAnswer]:
        store, owner = self._runtime.store, self._runtime.owner
        if store is None:
            return [unrecorded(arrival.head) for arrival in arrivals]
        if not arrivals:
            return ()
        return await store.claim(
            [claim_for(arrival, owner=owner, lease=self._lease) for arrival in arrivals]
        )

    def _end(self, arrival: Arrival, claimed: Claimed) -> Run:
        runtime = self._runtime
        recorded = runtime.store is not None
        now = runtime.clock.now()
        run = begin(arrival, claimed, runtime.registry, recorded=recorded, now=now)
        if recorded:
            run.held_until = runtime.clock.monotonic() + self._lease.total_seconds()
        if run.outcome is None:
            run.outcome = GIVEN_UP
        self._running[run.head.id] = run
        return run

    async def _carry_out(self, arrival: Arrival, answer: ClaimAnswer, now: datetime) -> Verdict:
        """Return what is to become of a message whose job was not claimed."""
        verdict = settle_unclaimed(answer, arrival.message, deliveries=arrival.delivery.count)
        verdict = self._in_reach(arrival, verdict, now)
        if not isinstance(verdict, Reschedule):
            return verdict
        # Its next attempt is recorded, and may never have been published.
        head, can = arrival.head, self._runtime.broker.capabilities
        kept_in_order = head.order is not None and not can.delayed_ordering
        outgoing = Outgoing(
            lane=arrival.delivery.lane,
            message=verdict.message or arrival.message,
            id=head.id,
            delay=ZERO if kept_in_order else verdict.delay,
            order=head.order,
            tenant=head.tenant,
        )
        try:
            await self._runtime.broker.publish([outgoing])
        except BrokerqError as exc:
            logger.warning("could not publish the next attempt of job %s: %s", head.id, exc)
            return self._in_reach(arrival, Release(delay=self._lease), now)
        return Ack()

    def _in_reach(self, arrival: Arrival, verdict: Verdict, now: datetime) -> Verdict:
        return in_reach(
            verdict,
            arrival.message,
            remembered=True,
            in_place=arrival.delivery.in_place,
            max_delay=self._runtime.broker.capabilities.max_delay,
            now=now,
        )


def salvages(
    runtime: Runtime,
    queues: Sequence[str],
    *,
    lease: timedelta,
    running: dict[str, Run],
    ended: Callable[[Sequence[Run]], None],
) -> list[Salvage]:
    """Return one for each queue, where the broker gives up on anything by itself."""
    if not isinstance(runtime.broker, Backstop):
        return []
    return [Salvage(runtime, name, lease=lease, running=running, ended=ended) for name in queues]
