"""From deliveries to runs: what starts now is claimed, in one call for a batch."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from brokerq.broker import Delivery, Release, Reschedule, Verdict
from brokerq.clock import Clock
from brokerq.context import Context
from brokerq.decide import precheck
from brokerq.duration import within
from brokerq.engine.lanes import LaneReader
from brokerq.engine.run import Run
from brokerq.errors import OUTAGE, PayloadError
from brokerq.message import Message
from brokerq.outcome import Unrunnable
from brokerq.payload import UndecodableError, fingerprint
from brokerq.record import Busy, ClaimAnswer, Claimed, State
from brokerq.records import unrecorded
from brokerq.registry import Registry
from brokerq.settlement import settle_unclaimed
from brokerq.store import Claim, Jobs, NewJob
from brokerq.wire import Head, WireError, adopt, read_head

logger = logging.getLogger("brokerq.worker")

UNKNOWN_PAUSE = timedelta(seconds=15)
OUTAGE_PAUSE = timedelta(seconds=1)
APART = timedelta(seconds=1)
_WRITTEN_BY_BROKERQ = ("bq-id", "bq-job", "bq-first-at")


@dataclass(slots=True, kw_only=True, eq=False)
class Arrival:
    """A delivery whose headers were read.

    Attributes:
        unreadable: Why the headers cannot be read; `head` is then a makeshift.
    """

    source: LaneReader
    delivery: Delivery
    message: Message
    head: Head
    unreadable: str | None = None


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
        longest_delay: timedelta | None,
        new_id: Callable[[], str],
        running: dict[str, Run],
    ) -> None:
        self._registry = registry
        self._store = store
        self._clock = clock
        self._owner = owner
        self._lease = lease
        self._unknown_wait = unknown_wait
        self._longest_delay = longest_delay
        self._new_id = new_id
        self._running = running

    async def admit(
        self, batch: Sequence[tuple[LaneReader, Delivery]]
    ) -> tuple[list[Run], list[Run]]:
        """Return the runs to start, and those that ended without being started.

        Raises one of `OUTAGE` when the claims could not be made: everything that needs the
        store has then been given back.
        """
        now = self._clock.now()
        settle: defaultdict[LaneReader, list[tuple[Delivery, Verdict]]] = defaultdict(list)
        arrivals: list[Arrival] = []
        for source, delivery in batch:
            arrival = self._read(source, delivery, now)
            verdict = self._early_verdict(arrival, now)
            if verdict is not None:
                settle[source].append((delivery, verdict))
            elif not self._follow(arrival):
                arrivals.append(arrival)
        runs: list[Run] = []
        held_until = self._clock.monotonic() + self._lease.total_seconds()
        try:
            answers, recorded = await self._claim(arrivals, settle)
        finally:
            await _settle(settle)
        settle.clear()
        for arrival, answer in zip(arrivals, answers, strict=True):
            if not recorded and self._follow(arrival):
                continue  # twice in one batch, and no store to say so
            if isinstance(answer, Claimed):
                run = self._begin(arrival, answer, recorded=recorded)
                if recorded:
                    run.held_until = held_until
                self._running[run.head.id] = run
                runs.append(run)
            elif not (isinstance(answer, Busy) and self._follow(arrival)):
                verdict = settle_unclaimed(
                    answer, arrival.message, deliveries=arrival.delivery.count
                )
                settle[arrival.source].append((arrival.delivery, verdict))
        await _settle(settle)
        return await self._sort(runs, now)

    def _read(self, source: LaneReader, delivery: Delivery, now: datetime) -> Arrival:
        message = delivery.message
        if not all(map(message.headers.get, _WRITTEN_BY_BROKERQ)):
            queue = self._registry.queues.get(delivery.lane.queue)
            message = adopt(
                message,
                id=delivery.id or self._new_id(),
                default_job=queue.default_job if queue is not None else None,
                now=now,
            )
        try:
            head = read_head(message)
        except WireError as exc:
            id_, job = (_as_text(message.headers.get(name, "")) for name in ("bq-id", "bq-job"))
            message = replace(message, headers={**message.headers, "bq-id": id_})
            head = Head(id=id_, job=job, first_at=now)
            no_job = "bq-job" not in message.headers
            return Arrival(
                source=source,
                delivery=delivery,
                message=message,
                head=head,
                unreadable=None if no_job else str(exc),
            )
        return Arrival(
            source=source, delivery=delivery, message=message, head=self._keyed(head, message)
        )

    def _keyed(self, head: Head, message: Message) -> Head:
        """Give a message written by hand the key that a publisher would have given it."""
        definition = self._registry.jobs.get(head.job)
        if definition is None or definition.idempotency_key is None or head.fingerprint is not None:
            return head
        if head.key is not None:
            return head._replace(fingerprint=_fingerprint(message.body))
        try:
            key = definition.key(definition.signature.decode(message.body))
        except Exception:  # noqa: BLE001 - a body that does not fit is found when it is decoded
            return head
        return head._replace(key=key, fingerprint=_fingerprint(message.body))

    def _early_verdict(self, arrival: Arrival, now: datetime) -> Verdict | None:
        """Return what is to become of a delivery that must not even be claimed, else None."""
        not_before = arrival.head.not_before
        if not_before is not None and not_before > now:
            return Release(delay=within(not_before - now, self._longest_delay))
        if arrival.delivery.id is None and not arrival.delivery.message.headers.get("bq-id"):
            return Reschedule(delay=timedelta(0), message=arrival.message)
        return None

    def _follow(self, arrival: Arrival) -> bool:
        """Attach a duplicate to the run of the same job in this process, if there is one."""
        run = self._running.get(arrival.head.id)
        if run is None or run.sealed:
            return False
        if run.recorded and arrival.head.epoch > run.claimed.epoch:
            return False  # no duplicate but what follows: the run's verdict is recorded already
        run.followers.append((arrival.source, arrival.delivery))
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
        claims = [
            Claim(
                job=NewJob(
                    head=arrival.head,
                    message=arrival.message,
                    queue=arrival.delivery.lane.queue,
                    level=arrival.delivery.lane.level,
                ),
                owner=self._owner,
                lease=self._lease,
            )
            for arrival in arrivals
        ]
        try:
            return await self._store.claim(claims), True
        except OUTAGE:
            kept = [a for a in arrivals if self._runs_without_store(a)]
            for arrival in arrivals:
                if arrival not in kept:
                    settle[arrival.source].append((arrival.delivery, Release(delay=OUTAGE_PAUSE)))
            arrivals[:] = kept
            if not kept:
                raise
            return [unrecorded(arrival.head) for arrival in kept], False

    def _runs_without_store(self, arrival: Arrival) -> bool:
        definition = self._registry.jobs.get(arrival.head.job)
        return definition is not None and definition.on_store_error == "run"

    def _begin(self, arrival: Arrival, claimed: Claimed, *, recorded: bool) -> Run:
        definition = self._registry.jobs.get(arrival.head.job)
        policy = self._registry.policy if definition is None else definition.retry
        if arrival.head.max_attempts is not None:
            policy = replace(policy, max_attempts=arrival.head.max_attempts, stop=None)
        run = Run(
            source=arrival.source,
            delivery=arrival.delivery,
            message=arrival.message,
            head=arrival.head,
            claimed=claimed,
            policy=policy,
            recorded=recorded,
            definition=definition,
        )
        if arrival.unreadable is not None:
            run.outcome = Unrunnable(reason="undecodable", detail=arrival.unreadable)
        return run

    async def _sort(self, runs: list[Run], now: datetime) -> tuple[list[Run], list[Run]]:
        start: list[Run] = []
        ended: list[Run] = []
        for run in runs:
            if run.outcome is None:
                run.outcome = precheck(run.claimed, run.policy, now=now)
            if run.outcome is None:
                await self._prepare(run)
        self._keep_apart([run for run in runs if run.outcome is None])
        for run in runs:
            (start if run.outcome is None else ended).append(run)
        return start, ended

    def _keep_apart(self, ready: Sequence[Run]) -> None:
        """Let no two jobs run side by side that would end with the next worker that is lost.

        Of all that ran together when a worker was lost one may be to blame, and they would come up
        together each time. Apart, the innocent ones get through. Those put off come up one by one;
        none is begun before, so that a crash now is not theirs.
        """
        last = [run for run in ready if _has_one_crash_left(run)]
        others = (run for run in self._running.values() if run not in last)
        if len(last) > 1 or (last and any(map(_has_one_crash_left, others))):
            for place, run in enumerate(last, start=1):
                run.outcome = Unrunnable(
                    reason="crash_loop",
                    detail="waits: another job that was lost as often may be to blame",
                    wait=place * APART,
                )

    async def _prepare(self, run: Run) -> None:
        definition = run.definition
        if definition is None:
            run.outcome = await self._unknown(run)
            return
        try:
            run.arguments = definition.signature.decode(run.message.body)
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
                )

    async def _unknown(self, run: Run) -> Unrunnable:
        """Let a job that nobody here knows wait for a worker that does: a deploy is under way."""
        name = run.head.job
        if not name:
            detail = "the message names no job, and its queue has no default job"
            return Unrunnable(reason="unknown_job", detail=detail)
        first_claim = await self._first_claim(run)
        left = self._unknown_wait - (self._clock.now() - first_claim)
        detail = f"no job named {name!r} is registered with the worker's app"
        if left <= timedelta(0):
            return Unrunnable(reason="unknown_job", detail=detail)
        return Unrunnable(reason="unknown_job", detail=detail, wait=min(UNKNOWN_PAUSE, left))

    async def _first_claim(self, run: Run) -> datetime:
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
        return next(later, self._clock.now())


def _has_one_crash_left(run: Run) -> bool:
    crashes = run.claimed.crashes
    return crashes > 0 and crashes == run.policy.max_crashes - 1


def _as_text(header: str) -> str:
    """Return what a store can keep of a header that may hold half a surrogate pair."""
    return header.encode("utf-8", "backslashreplace").decode()


def _fingerprint(body: bytes) -> str | None:
    try:
        return fingerprint(body)
    except ValueError:
        return None


async def _settle(
    verdicts: Mapping[LaneReader, Sequence[tuple[Delivery, Verdict]]],
) -> None:
    for source, pairs in verdicts.items():
        await source.settle(pairs)
