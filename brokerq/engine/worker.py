"""The worker: receive, claim, run, decide, record, settle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Literal

from brokerq.broker import Delivery
from brokerq.engine.backlog import Backlog
from brokerq.engine.heartbeat import Heartbeat
from brokerq.engine.hooks import HookRunner, conclusion_events
from brokerq.engine.idleness import Until, inspectable, nothing_left
from brokerq.engine.intake import Intake
from brokerq.engine.lanes import LaneReader
from brokerq.engine.late import LateRecords
from brokerq.engine.recorder import Conclusion, Recorder, Recording
from brokerq.engine.relay import Relay
from brokerq.engine.report import Report
from brokerq.engine.run import Ending, Run
from brokerq.engine.runner import Runner
from brokerq.engine.salvage import salvages
from brokerq.engine.shares import Shares, lane_weights
from brokerq.engine.slots import Slots
from brokerq.engine.transacting import transactions_of
from brokerq.engine.upkeep import Upkeep
from brokerq.errors import OUTAGE
from brokerq.hooks import Event
from brokerq.runtime import Runtime

logger = logging.getLogger("brokerq.worker")

IDLE_CHECK = 0.05
GIVE_WAY = timedelta(seconds=5)
FLUSH = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What one worker does.

    Attributes:
        queues: Names and weights; the weight is a queue's share when all have work.
        grace: How long running jobs may go on once it stops.
        strict: Empty the queues in order instead.
        until: When to stop by itself.
        max_jobs: Stop after so many jobs, once these have ended.
        max_runtime: Stop after so long.
        give_way: What interrupted jobs get, and then what is to be recorded; None: the usual.
    """

    queues: Sequence[tuple[str, int]]
    concurrency: int
    grace: timedelta
    strict: bool = False
    until: Until = Until.STOPPED
    max_jobs: int | None = None
    max_runtime: timedelta | None = None
    give_way: timedelta | None = None


class Worker:
    """One worker; everything but `request_stop` happens on the engine's loop."""

    def __init__(
        self,
        runtime: Runtime,
        options: WorkerOptions,
        *,
        user_loop: asyncio.AbstractEventLoop,
        host: asyncio.Task[Any],
    ) -> None:
        """Make a worker; `host` is the task of the program that waits for it."""
        self._runtime = runtime
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._report = Report()
        self._running: dict[str, Run] = {}
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._asked = False
        self._at_rest = asyncio.Event()
        queues = runtime.registry.queues
        chosen = [(queues[name].spec, weight) for name, weight in options.queues]
        weights = lane_weights(chosen)
        lease = min(spec.lease for spec, _ in chosen)
        self._late = LateRecords(runtime.store, owner=runtime.owner, lease=lease)
        self._hooks = HookRunner(runtime.registry.hooks, user_loop)
        backlog = Backlog()
        self._runner = Runner(
            user_loop=user_loop,
            host=host,
            engine_loop=self._loop,
            concurrency=options.concurrency,
            backlog=backlog,
            middleware=runtime.registry.middleware,
            max_result=runtime.limits.max_result,
            clock=runtime.clock,
            on_done=self._done,
        )
        self._recorder = Recorder(
            self._recording(lease),
            more_to_come=lambda: self._slots.more_to_come,
            late=self._late,
            forget=self._forget,
            concluded=self._concluded,
            again=self._again,
        )
        self._runner.transactions = transactions_of(
            runtime, success=self._recorder.success, encode=self._runner.encode
        )
        intake = Intake(
            runtime.registry,
            runtime.store,
            clock=runtime.clock,
            owner=runtime.owner,
            lease=lease,
            unknown_wait=runtime.limits.unknown_wait,
            max_delay=runtime.broker.capabilities.max_delay,
            new_id=runtime.new_id,
            running=self._running,
        )
        self._slots = Slots(
            intake,
            Shares(weights, strict=options.strict),
            concurrency=options.concurrency,
            backlog=backlog,
            lease=lease,
            max_jobs=options.max_jobs,
            running=self._running,
            start=self._start,
            ended=self._recorder.add,
        )
        self._readers = [
            LaneReader(
                partial(runtime.broker.consume, lane, prefetch=self._slots.prefetch),
                lane,
                room=self._slots.room,
                on_delivery=self._slots.wake,
                random=runtime.random,
            )
            for lane in weights
        ]
        self._slots.readers = self._readers
        self._salvages = salvages(
            runtime,
            [name for name, _ in options.queues],
            lease=lease,
            running=self._running,
            ended=self._recorder.add,
        )
        self._all_readers = [*self._readers, *(each.reader for each in self._salvages)]
        self._heartbeat = Heartbeat(
            self._all_readers,
            runtime.store,
            owner=runtime.owner,
            lease=lease,
            renewals=runtime.limits.renewals,
            running=self._running,
            end=self._runner.end,
            clock=runtime.clock,
            random=runtime.random,
        )

    def _recording(self, lease: timedelta) -> Recording:
        runtime = self._runtime
        can, queues = runtime.broker.capabilities, runtime.registry.queues
        ordered = (name for name, queue in queues.items() if queue.spec.ordered)
        return Recording(
            store=runtime.store,
            lease=lease,
            clock=runtime.clock,
            random=runtime.random,
            owner=runtime.owner,
            host=runtime.host,
            app_version=runtime.app_version,
            keep_result=runtime.limits.keep_result,
            window=runtime.limits.window,
            max_delay=can.max_delay,
            uncopied=frozenset[str]() if can.delayed_ordering else frozenset(ordered),
        )

    def request_stop(self) -> None:
        """Ask the worker to stop; the second time running jobs get no more grace.

        May be called from any thread and from a signal handler.
        """
        self._loop.call_soon_threadsafe(self._on_stop)

    def _on_stop(self) -> None:
        if self._asked:
            self._hurry.set()
        self._asked = True
        self._stop.set()

    async def main(self) -> Report:
        """Work until stopped; returns when everything is recorded, settled and given back."""
        tasks = await self._start_tasks()
        self._fire_worker("worker_start")
        try:
            await self._until_stopped(tasks)
        finally:
            await self._shut_down(tasks)
        return self._report

    async def _start_tasks(self) -> list[asyncio.Task[None]]:
        store = self._runtime.store
        if store is not None:
            await self._slots.pause(await store.paused())
        slots = self._slots
        loops = [self._heartbeat.beat_for_ever(), slots.fill(), slots.give_back_what_waits()]
        if self._options.until is not Until.STOPPED or self._options.max_jobs is not None:
            loops.append(self._watch())
        if store is not None:
            upkeep = Upkeep(
                self._runtime.broker,
                store,
                retention=self._runtime.limits.retention,
                random=self._runtime.random,
                late=self._late,
                on_pauses=self._slots.pause,
            )
            loops += [upkeep.obey_pauses(), upkeep.sweep(), Relay(self._runtime, store).run()]
        for reader in self._readers:
            if reader.lane.queue not in self._slots.paused:
                reader.start()
        for salvage in self._salvages:
            salvage.reader.start()
            loops.append(salvage.judge_for_ever())
        return [*self._recorder.start(), *map(asyncio.create_task, loops)]

    async def _until_stopped(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        stop = asyncio.create_task(self._stop.wait())
        limit = self._options.max_runtime
        broken = [each.broken for each in self._all_readers]
        ends: list[asyncio.Future[Any]] = [stop, *tasks, *broken]
        done, _ = await asyncio.wait(
            ends,
            timeout=None if limit is None else limit.total_seconds(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        stop.cancel()
        for ended in done - {stop}:
            ended.result()  # none of these ends by itself but by a bug, which is raised here

    async def _watch(self) -> None:
        """Look whether the worker may stop by itself."""
        until = self._options.until
        if until is not Until.STOPPED:
            inspectable(self._runtime.broker)
        while True:
            await asyncio.sleep(IDLE_CHECK)
            if self._slots.spent:
                await self._end_when_done()
            elif until is not Until.STOPPED and self._idle and await self._may_stop(until):
                self._stop.set()

    @property
    def _idle(self) -> bool:
        return self._slots.idle and all(each.idle for each in self._salvages)

    async def _end_when_done(self) -> None:
        """Leave what is not begun to others; the last jobs may take their time to the end."""
        for reader in self._readers:
            await reader.drain()
        if not self._running:
            self._stop.set()

    async def _may_stop(self, until: Until) -> bool:
        broker, store = self._runtime.broker, self._runtime.store
        queues = [name for name, _ in self._options.queues if name not in self._slots.paused]
        try:
            if not await nothing_left(broker, store, queues, until):
                return False
        except OUTAGE:  # the readers say so, and go on when it is over
            return False
        # A message may be on its way here, neither ready nor in the buffer: look again with the
        # readers stopped, which gives back whatever was on its way.
        for reader in self._readers:
            await reader.drain()
        try:
            if self._idle and await nothing_left(broker, store, queues, until):
                return True
        except OUTAGE as exc:
            logger.warning("cannot tell whether anything is left: %s", exc)
        for reader in self._readers:
            if reader.lane.queue not in self._slots.paused:
                reader.start()
        return False

    def _start(self, runs: Sequence[Run]) -> None:
        if self._hooks.wants("started"):
            self._hooks.fire([(self._started(run), ()) for run in runs])
        self._runner.start(runs)

    def _started(self, run: Run) -> Event:
        return Event(
            name="started",
            at=self._runtime.clock.now(),
            worker=self._runtime.owner,
            job_id=run.head.id,
            job=run.head.job,
            queue=run.delivery.lane.queue,
            attempt=run.claimed.attempts,
        )

    def _done(self, runs: list[Run]) -> None:
        self._recorder.add(runs)
        self._slots.leave(len(runs))

    def _again(self, source: LaneReader, delivery: Delivery) -> None:
        self._slots.put_back(source, delivery)

    def _forget(self, runs: Sequence[Run]) -> None:
        running = self._running
        for run in runs:
            if running.get(run.head.id) is run:
                del running[run.head.id]

    def _concluded(self, conclusions: Sequence[Conclusion]) -> None:
        owner, now = self._runtime.owner, self._runtime.clock.now()
        self._report.add(conclusions)
        listening = self._hooks.listening
        for conclusion in conclusions:
            if listening or conclusion.letter is not None:
                self._hooks.fire(
                    conclusion_events(conclusion, wants=self._hooks.wants, worker=owner, at=now)
                )
        if not self._running:
            self._at_rest.set()
        self._slots.wake()

    def _fire_worker(self, name: Literal["worker_start", "worker_stop"]) -> None:
        if self._hooks.wants(name):
            event = Event(name=name, at=self._runtime.clock.now(), worker=self._runtime.owner)
            self._hooks.fire([(event, ())])

    async def _shut_down(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        limit = self._options.give_way
        give_way, flush = (GIVE_WAY, FLUSH) if limit is None else (limit, limit)
        await self._slots.close()
        await asyncio.gather(
            *(reader.drain() for reader in self._readers),
            *(salvage.stop() for salvage in self._salvages),
        )
        await self._wait_for_rest(self._options.grace, unless=self._hurry)
        self._runner.end(list(self._running.values()), Ending.SHUTDOWN)
        await self._wait_for_rest(give_way)
        if any(run.outcome is not None for run in self._running.values()):
            await self._wait_for_rest(flush)
        self._report.abandoned = len(self._running)  # also what is done and could not be recorded
        await self._recorder.stop()
        await self._late.close()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.gather(
            *(reader.close() for reader in self._readers),
            *(salvage.reader.close() for salvage in self._salvages),
        )
        self._runner.close()
        self._fire_worker("worker_stop")
        await self._hooks.finish(within=give_way.total_seconds())

    async def _wait_for_rest(
        self, limit: timedelta, *, unless: asyncio.Event | None = None
    ) -> None:
        """Wait until nothing runs, at most `limit`, or until `unless` happens."""
        if not self._running:
            return
        self._at_rest.clear()
        waits = [asyncio.create_task(self._at_rest.wait())]
        if unless is not None:
            waits.append(asyncio.create_task(unless.wait()))
        await asyncio.wait(
            waits, timeout=limit.total_seconds(), return_when=asyncio.FIRST_COMPLETED
        )
        for task in waits:
            task.cancel()
