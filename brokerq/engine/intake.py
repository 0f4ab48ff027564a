"""From deliveries to runs: what starts now is claimed, in one call for a batch."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from brokerq.broker import Delivery, Release, Reschedule, Verdict
from brokerq.clock import Clock
from brokerq.context import Context
from brokerq.decide import precheck
from brokerq.definition import Definition
from brokerq.duration import ZERO
from brokerq.engine.arrival import Arrival, begin, claim_for, read_arrival
from brokerq.engine.lanes import LaneReader
from brokerq.engine.run import Run
from brokerq.errors import OUTAGE, PayloadError
from brokerq.outcome import Unrunnable
from brokerq.payload import UndecodableError
from brokerq.record import Busy, ClaimAnswer, Claimed, State
from brokerq.records import unrecorded
from brokerq.registry import Registry
from brokerq.settlement import apart, in_reach, next_wait, settle_unclaimed
from brokerq.store import Jobs

logger = logging.getLogger("brokerq.worker")

UNKNOWN_PAUSE = timedelta(seconds=15)
LONGEST_UNKNOWN_PAUSE = timedelta(minutes=2)
OUTAGE_PAUSE = timedelta(seconds=1)
LONGEST_OUTAGE_PAUSE = timedelta(minutes=1)
APART = timedelta(seconds=1)
LONGEST_APART = timedelta(minutes=1)
MOST_FOLLOWERS = 50
"""Duplicates of one running job that are held; each takes up room that other jobs could have."""


class Intake:
    """Reads headers, claims, decodes; returns the runs to start, settles or records the others."""

    def __init__(
        self,
        registry: Registry,
        store: Jobs | None,
        *,
        clock: Clock,
        owner: str,
        lease: timedelta,
        unknown_wait: timedelta,
        max_delay: timedelta | None,
        new_id: Callable[[], str],
        running: dict[str, Run],
    ) -> None:
        self._registry = registry
        self._store = store
        self._clock = clock
        self._owner = owner
        self._lease = lease
        self._unknown_wait = unknown_wait
        self._max_delay = max_delay
        self._new_id = new_id
        self._running = running
        self._away_since: float | None = None
        self._put_off: dict[str, int] = {}

    async def admit(
        self, batch: Sequence[tuple[LaneReader, Delivery]], *, slots: int
    ) -> tuple[list[Run], list[Run]]:
        """Return the runs to start, and those that ended without being started.

        The first `slots` of the batch begin at once, the others are claimed early.
        Raises one of `OUTAGE` when the claims could not be made: everything that needs the
        store has then been given back.
        """
        now = self._clock.now()
        settle: defaultdict[LaneReader, list[tuple[Delivery, Verdict]]] = defaultdict(list)
        arrivals: list[Arrival] = []
        for place, (source, delivery) in enumerate(batch):
            arrival = read_arrival(source, delivery, self._registry, new_id=self._new_id, now=now)
            arrival.early = place >= slots
            verdict = self._early_verdict(arrival, now)
            if verdict is not None:
                settle[source].append((delivery, verdict))
            elif arrival.head.id not in self._running or not self._follow(arrival):
                arrivals.append(arrival)
        runs: list[Run] = []
        held_until = self._clock.monotonic() + self._lease.total_seconds()
        try:
            answers, recorded = await self._claim(arrivals, settle)
            now = self._clock.now()  # as of the claims: what follows may take its time
        finally:
            await _settle(settle)
        settle.clear()
        for arrival, answer in zip(arrivals, answers, strict=True):
            if not recorded and self._follow(arrival):
                continue  # twice in one batch, and no store to say so
            if isinstance(answer, Claimed):
                run = begin(arrival, answer, self._registry, recorded=recorded, now=now)
                if recorded:
                    run.held_until = held_until
                self._running[run.head.id] = run
                runs.append(run)
            elif not (isinstance(answer, Busy) and self._follow(arrival)):
                verdict = settle_unclaimed(
                    answer, arrival.message, deliveries=arrival.delivery.count
                )
                verdict = self._in_reach(arrival, verdict, now)
                settle[arrival.source].append((arrival.delivery, verdict))
        await _settle(settle)
        return await self._sort(runs, now)

    def _early_verdict(self, arrival: Arrival, now: datetime) -> Verdict | None:
        """Return what is to become of a delivery that must not even be claimed, else None."""
        not_before = arrival.head.not_before
        if not_before is not None and not_before > now:
            return self._in_reach(arrival, Release(delay=not_before - now), now)
        if arrival.delivery.id is None and not arrival.delivery.message.headers.get("bq-id"):
            return Reschedule(delay=ZERO, message=arrival.message)
        return None

    def _in_reach(self, arrival: Arrival, verdict: Verdict, now: datetime) -> Verdict:
        """Return the verdict on what is due by its header, or its record.

        A copy that may be run without its record says itself when it is due.
        """
        is_copy = isinstance(verdict, Reschedule)
        return in_reach(
            verdict,
            arrival.message,
            remembered=not (is_copy and self._runs_without_store(arrival)),
            in_place=arrival.delivery.in_place,
            max_delay=self._max_delay,
            now=now,
        )

    def _follow(self, arrival: Arrival) -> bool:
        """Attach a duplicate to the run of the same job in this process, if there is one."""
        run = self._running.get(arrival.head.id)
        if run is None or run.sealed:
            return False
        if run.recorded and arrival.head.epoch > run.claimed.epoch:
            return False  # no duplicate but what follows: the run's verdict is recorded already
        if run.recorded and len(run.followers) >= MOST_FOLLOWERS:
            return False  # the record tells it to come again, so that it takes up no room here
        run.followers = (*run.followers, (arrival.source, arrival.delivery))
        return True

    async def _claim(
        self,
        arrivals: list[Arrival],
        settle: defaultdict[LaneReader, list[tuple[Delivery, Verdict]]],
    ) -> tuple[Sequence[ClaimAnswer], bool]:
        """Return an answer for each arrival left, and whether these are in the store."""
        if self._store is None:
            return [unrecorded(arrival.head) for arrival in arrivals], False
        if not arrivals:
            return (), True
        claims = [claim_for(each, owner=self._owner, lease=self._lease) for each in arrivals]
        try:
            answers = await self._store.claim(claims)
        except OUTAGE:
            now, away = self._clock.now(), Release(delay=self._outage_pause())
            kept = [a for a in arrivals if self._runs_without_store(a)]
            for arrival in arrivals:
                if arrival not in kept:
                    verdict = self._in_reach(arrival, away, now)
                    settle[arrival.source].append((arrival.delivery, verdict))
            arrivals[:] = kept
            if not kept:
                raise
            return [unrecorded(arrival.head) for arrival in kept], False
        self._away_since = None
        return answers, True

    def _outage_pause(self) -> timedelta:
        """Return how long a job waits for a store that is away: longer, the longer it is."""
        now = self._clock.monotonic()
        if self._away_since is None:
            self._away_since = now
        waited = timedelta(seconds=now - self._away_since)
        return next_wait(waited, first=OUTAGE_PAUSE, longest=LONGEST_OUTAGE_PAUSE)

    def _runs_without_store(self, arrival: Arrival) -> bool:
        definition = self._registry.jobs.get(arrival.head.job)
        return definition is not None and definition.on_store_error == "run"

    async def _sort(self, runs: list[Run], now: datetime) -> tuple[list[Run], list[Run]]:
        for run in runs:
            if run.outcome is None:
                run.outcome = precheck(run.claimed, run.policy, now=now - run.ahead)
            if run.outcome is None:
                if run.definition is None:
                    run.outcome = await self._unknown(run)
                else:
                    self._prepare(run, run.definition)
        crashed = [run for run in runs if run.claimed.crashes and run.outcome is None]
        last = [run for run in crashed if _has_one_crash_left(run)]
        if last:
            self._keep_apart(last)
        start = [run for run in runs if run.outcome is None]
        ended = [run for run in runs if run.outcome is not None]
        return start, ended

    def _keep_apart(self, last: Sequence[Run]) -> None:
        """Let no two jobs run side by side that would end with the next worker that is lost.

        Of all that ran together when a worker was lost one may be to blame, and they would come up
        together each time. Apart, the innocent ones get through. Those put off come up one by one;
        none is begun before, so that a crash now is not theirs.
        """
        others = (run for run in self._running.values() if run not in last)
        beside_another = any(map(_has_one_crash_left, others))
        if len(last) == 1 and not beside_another:
            self._put_off.pop(last[0].head.id, None)
            return
        for place, run in enumerate(last, start=int(beside_another)):
            times = self._put_off.get(run.head.id, 0)
            run.outcome = Unrunnable(
                reason="crash_loop",
                detail="waits: another job that was lost as often may be to blame",
                wait=apart(place, times, step=APART, longest=LONGEST_APART),
            )
            if place > 0:
                self._put_off[run.head.id] = times + 1

    def _prepare(self, run: Run, definition: Definition) -> None:
        try:
            run.arguments = definition.signature.payload.decode(run.message.body)
        except UndecodableError as exc:
            run.outcome = Unrunnable(reason="undecodable", detail=str(exc))
        except PayloadError as exc:
            run.outcome = Unrunnable(reason="invalid", detail=str(exc))
        else:
            if definition.needs_context or self._registry.middleware:
                run.context = Context(
                    run.head,
                    run.claimed,
                    queue=run.delivery.lane.queue,
                    max_attempts=run.policy.max_attempts,
                    hide=run.hide,
                )

    async def _unknown(self, run: Run) -> Unrunnable:
        """Let a job that nobody here knows wait for a worker that does: a deploy is under way."""
        name = run.head.job
        if not name:
            detail = "the message names no job, and its queue has no default job"
            return Unrunnable(reason="unknown_job", detail=detail)
        now = self._clock.now() - run.ahead
        waited = now - await self._first_claim(run, now)
        left = self._unknown_wait - waited
        detail = f"no job named {name!r} is registered with the worker's app"
        if left <= ZERO:
            return Unrunnable(reason="unknown_job", detail=detail)
        pause = next_wait(waited, first=UNKNOWN_PAUSE, longest=LONGEST_UNKNOWN_PAUSE)
        return Unrunnable(reason="unknown_job", detail=detail, wait=min(pause, left))

    async def _first_claim(self, run: Run, now: datetime) -> datetime:
        """Return when the job was claimed first, since it was redriven if it was."""
        if self._store is None or not run.recorded:
            return run.claimed.first_at
        try:
            [view] = await self._store.get([run.head.id])
        except OUTAGE:
            view = None  # it waits once more
        redriven_at = run.claimed.first_at if run.claimed.redrives else None
        begun = (step.at for step in view.history if step.state == State.RUNNING) if view else ()
        later = (at for at in begun if redriven_at is None or at >= redriven_at)
        return next(later, now)


def _has_one_crash_left(run: Run) -> bool:
    crashes = run.claimed.crashes
    return crashes > 0 and crashes == run.policy.max_crashes - 1


async def _settle(
    verdicts: Mapping[LaneReader, Sequence[tuple[Delivery, Verdict]]],
) -> None:
    for source, pairs in verdicts.items():
        await source.settle(pairs)
