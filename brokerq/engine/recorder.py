"""Records what runs came to, then settles their deliveries: both in batches."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import TypeVar

from brokerq.broker import Ack, Delivery, Release, Verdict
from brokerq.clock import Clock
from brokerq.dead_letter import MESSAGE_LIMIT, Scene, cut, describe, write_letter
from brokerq.decide import SUCCESS, Decision, decide
from brokerq.engine.lanes import LaneReader
from brokerq.engine.late import LateRecords
from brokerq.engine.run import Run
from brokerq.errors import OUTAGE
from brokerq.message import Message
from brokerq.outcome import Drop, Failed, NotCommittedError, Snooze, Succeeded
from brokerq.record import BURIED, ENDED, SUCCEEDED, State
from brokerq.redaction import Hider
from brokerq.settlement import in_reach, needs_copy, next_copy, settle_finished
from brokerq.store import Failure, Finish, Holding, Jobs, NewJob, Transition

logger = logging.getLogger("brokerq.worker")

T = TypeVar("T")

LINGER = 0.005
FULL = 50
"""So many completed runs are recorded without waiting for more."""
STORE_BACKOFF = 0.2


@dataclass(slots=True, eq=False)
class Conclusion:
    """A run with what was decided, and then recorded, about it.

    Attributes:
        state: As recorded; None: the lease was lost.
        settled: Whether the delivery was.
    """

    run: Run
    decision: Decision
    letter: Message | None = None
    copy: Message | None = None
    state: State | None = None
    settled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a recorder needs to know of the worker it records for.

    Attributes:
        store: None: nothing is recorded, counts travel in the messages.
        max_delay: The longest that the broker can keep a message back; None: any.
        uncopied: Queues on which a copy would lose its place in the order.
    """

    store: Jobs | None
    lease: timedelta
    clock: Clock
    random: Random
    owner: str
    host: str
    app_version: str | None
    keep_result: timedelta
    window: timedelta
    max_delay: timedelta | None
    uncopied: Collection[str]


class _Line:
    """Completed runs whose turn has not come yet."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.wake = asyncio.Event()

    def add(self, runs: Sequence[Run]) -> None:
        if runs:
            self.runs.extend(runs)
            self.wake.set()


class Recorder:
    """Takes completed runs; `concluded` is called with each batch when it is settled.

    Those that nothing is recorded of do not wait for the others, whose store may be away.
    """

    def __init__(
        self,
        about: Recording,
        *,
        more_to_come: Callable[[], bool],
        late: LateRecords,
        forget: Callable[[Sequence[Run]], None],
        concluded: Callable[[Sequence[Conclusion]], None],
        again: Callable[[LaneReader, Delivery], None],
    ) -> None:
        self._about = about
        self._more_to_come = more_to_come
        self._late = late
        self._forget = forget
        self._concluded = concluded
        self._again = again
        self._recorded, self._unrecorded = self._lines = _Line(), _Line()
        self._recording: list[asyncio.Task[None]] = []
        self._settling: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    def start(self) -> list[asyncio.Task[None]]:
        """Begin to record; the tasks never end by themselves."""
        self._recording = [
            asyncio.create_task(self._loop(line), name="record") for line in self._lines
        ]
        return self._recording

    def add(self, runs: Sequence[Run]) -> None:
        """Take runs whose outcome is known."""
        self._recorded.add([run for run in runs if run.recorded])
        self._unrecorded.add([run for run in runs if not run.recorded])

    async def stop(self) -> None:
        """Stop, leaving what is not recorded to its lease."""
        tasks = [*self._recording, *self._settling]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _loop(self, line: _Line) -> None:
        while True:
            await line.wake.wait()
            if len(line.runs) < FULL and self._more_to_come():
                await asyncio.sleep(LINGER)
            line.wake.clear()
            if self._failure is not None:
                raise self._failure
            batch, line.runs = line.runs, []
            if not batch:
                continue
            concluded = await self._record(batch)
            task = asyncio.create_task(self._settle(concluded))
            self._settling.add(task)
            task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[None]) -> None:
        """Let a bug in settling end the recording too: it must not pass unseen."""
        self._settling.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.critical("settling failed", exc_info=error)
            self._failure = error
            for line in self._lines:
                line.wake.set()

    async def _record(self, runs: Sequence[Run]) -> list[Conclusion]:
        committed = [run for run in runs if run.committed]
        if committed:
            await self._confirm(committed)
        now = self._about.clock.now()
        planned = [self._plan(run, now) for run in runs]
        for plan in planned:
            if plan.decision.state in BURIED:
                plan.letter = await self._letter(plan, now)
        recorded = [plan for plan in planned if plan.run.recorded and not plan.run.committed]
        states = await self._finish_for_certain([self._finish(plan) for plan in recorded])
        for plan in planned:
            plan.state = plan.decision.state
        for plan, state in zip(recorded, states, strict=True):
            plan.state = state
        return planned

    def success(self, run: Run) -> Finish:
        """Return what is to be recorded of a run that has succeeded; from any thread."""
        return self._finish(Conclusion(run, SUCCESS))

    def _plan(self, run: Run, now: datetime) -> Conclusion:
        outcome, claimed = run.outcome, run.claimed
        assert outcome is not None  # noqa: S101 - completed
        if isinstance(outcome, Succeeded):
            return Conclusion(run, SUCCESS)
        decision = decide(
            outcome, claimed, run.policy, now=now - run.ahead, random=self._about.random
        )
        plan = Conclusion(run, decision)
        if needs_copy(
            decision.state,
            decision.delay,
            in_place=run.delivery.in_place,
            counts_in_message=not run.recorded,
            may_copy=run.delivery.lane.queue not in self._about.uncopied,
        ):
            plan.copy = next_copy(
                run.message,
                epoch=claimed.epoch + 1,
                attempts=claimed.attempts + decision.attempt,
                crashes=claimed.crashes,
            )
        return plan

    async def _letter(self, plan: Conclusion, now: datetime) -> Message:
        about, run, decision = self._about, plan.run, plan.decision
        claimed = run.claimed
        return write_letter(
            run.message,
            reason=decision.reason or "exhausted",
            note=decision.note,
            error=run.outcome.error if isinstance(run.outcome, Failed) else None,
            first_at=claimed.first_at,
            attempts=claimed.attempts + decision.attempt,
            crashes=claimed.crashes,
            epoch=claimed.epoch,
            scene=Scene(
                at=now,
                queue=run.delivery.lane.queue,
                worker=about.owner,
                host=about.host,
                app_version=about.app_version,
            ),
            history=await self._history(run),
            hide=run.hide,
        )

    async def _history(self, run: Run) -> Sequence[Transition]:
        """Read the job's history for its dead letter; a rare read, and not worth failing for."""
        store = self._about.store
        if store is None or not run.recorded:
            return ()
        try:
            [view] = await store.get([run.head.id])
        except OUTAGE:
            return ()
        return () if view is None else view.history

    def _finish(self, plan: Conclusion) -> Finish:
        about, run, decision = self._about, plan.run, plan.decision
        outcome, context, note = run.outcome, run.context, decision.note or run.problem
        return Finish(  # by position, as it is for every run: by name takes three times as long
            Holding(run.head.id, about.owner, run.claimed.fence),
            decision.state,
            decision.attempt,
            plan.copy is not None,
            decision.delay,
            about.window,
            run.result if decision.state is SUCCEEDED else None,
            about.keep_result,
            _failure(outcome, run.hide) if isinstance(outcome, Failed) else None,
            None if note is None else cut(run.hide(note), MESSAGE_LIMIT),
            plan.letter,
            () if context is None else context.logged,
        )

    async def _confirm(self, runs: Sequence[Run]) -> None:
        """Look whether what was committed is there: a session may have been closed without."""
        store = self._about.store
        assert store is not None  # noqa: S101 - or no transaction could have been joined
        views = await self._for_certain(lambda: store.get([run.head.id for run in runs]), runs)
        for run, view in zip(runs, views, strict=True):
            if view is None or view.state is not State.SUCCEEDED:
                run.committed = False
                run.outcome = Failed(error=NotCommittedError())

    async def _finish_for_certain(self, finishes: Sequence[Finish]) -> Sequence[State | None]:
        store = self._about.store
        if store is None or not finishes:
            return ()
        return await self._for_certain(lambda: store.finish(finishes), finishes)

    async def _for_certain(self, call: Callable[[], Awaitable[T]], jobs: Sequence[object]) -> T:
        """Call the store, however long it is away: who loses a lease meanwhile is told so."""
        while True:
            try:
                return await call()
            except OUTAGE as exc:
                logger.warning("the store cannot be reached, %d jobs wait: %s", len(jobs), exc)
                await asyncio.sleep(STORE_BACKOFF * (0.5 + self._about.random.random()))

    async def _settle(self, concluded: Sequence[Conclusion]) -> None:
        by_source: defaultdict[LaneReader, list[Conclusion]] = defaultdict(list)
        for conclusion in concluded:
            by_source[conclusion.run.source].append(conclusion)
            # From here on what arrives for this job may be its own follow-up, no duplicate.
            conclusion.run.sealed = True
        now = self._about.clock.now()
        for source, group in by_source.items():
            answers = await source.settle([(c.run.delivery, self._verdict(c, now)) for c in group])
            for conclusion, ok in zip(group, answers, strict=True):
                conclusion.settled = ok
        self._forget([conclusion.run for conclusion in concluded])
        for conclusion in concluded:
            if conclusion.settled and not conclusion.run.recorded and conclusion.state in ENDED:
                self._late.add(_new_job(conclusion.run), self._finish(conclusion))
        self._concluded(concluded)  # first: who stops waits for no follower
        await self._settle_followers(concluded)

    def _verdict(self, conclusion: Conclusion, now: datetime) -> Verdict:
        run, state = conclusion.run, conclusion.state
        if state is None:  # somebody else owns the job now: come back after that lease
            verdict: Verdict = Release(delay=self._about.lease)
        else:
            verdict = settle_finished(
                state,
                run.message,
                delay=conclusion.decision.delay,
                copy=conclusion.copy,
                letter=conclusion.letter,
            )
        if isinstance(verdict, Ack):
            return verdict
        return in_reach(
            verdict,
            run.message,
            remembered=run.needs_record or run.delivery.lane.queue in self._about.uncopied,
            in_place=run.delivery.in_place,
            max_delay=self._about.max_delay,
            now=now,
        )

    async def _settle_followers(self, settled: Sequence[Conclusion]) -> None:
        """Let duplicates share the fate: done with if the job's own delivery was, else asked again.

        A released job's duplicates are dropped too: its own message comes back.
        """
        acks: defaultdict[LaneReader, list[tuple[Delivery, Verdict]]] = defaultdict(list)
        for conclusion in settled:
            for source, delivery in conclusion.run.followers:
                if conclusion.settled and conclusion.state is not None:
                    acks[source].append((delivery, Ack()))
                else:
                    self._again(source, delivery)
        for source, verdicts in acks.items():
            await source.settle(verdicts)


def _failure(outcome: Failed, hide: Hider) -> Failure | None:
    if isinstance(outcome.error, Snooze | Drop):
        return None  # who asks to be run later, or not at all, has not failed
    return describe(outcome.error, hide=hide)


def _new_job(run: Run) -> NewJob:
    lane = run.delivery.lane
    return NewJob(head=run.head, message=run.message, queue=lane.queue, level=lane.level)
