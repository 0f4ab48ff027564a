"""Runs handlers on the program's own event loop; one hop per batch to and from the engine's."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

from brokerq.clock import Clock
from brokerq.engine.backlog import Backlog
from brokerq.engine.processes import Processes
from brokerq.engine.run import Ending, Run
from brokerq.engine.transacting import Transactions
from brokerq.errors import PayloadError
from brokerq.middleware import Middleware, chain
from brokerq.outcome import Cancelled, Failed, Interrupted, JobTimeoutError, Outcome, Succeeded

CHILD_START = 60.0
"""So long, beyond its timeout, a job waits for a child process that is to begin it."""


_SUCCEEDED = Succeeded()


class Runner:
    """Runs what was claimed. Everything but `start` and `end` happens on the program's loop.

    A coroutine that is to end early is cancelled, a child process is killed. A thread can be
    neither: its context says so, its slot stays taken until it returns. A run that returns after
    all has succeeded, but for its timeout.
    """

    def __init__(
        self,
        *,
        user_loop: asyncio.AbstractEventLoop,
        host: asyncio.Task[Any],
        engine_loop: asyncio.AbstractEventLoop,
        concurrency: int,
        backlog: Backlog,
        middleware: Sequence[Middleware],
        max_result: int,
        clock: Clock,
        on_done: Callable[[list[Run]], None],
    ) -> None:
        self._user_loop = user_loop
        self._host = host
        self._engine_loop = engine_loop
        self._concurrency = concurrency
        self._backlog = backlog
        self._context = contextvars.copy_context()
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="brokerq-job")
        self._processes = Processes(self._threads)
        self._middleware = tuple(middleware)
        self._max_result = max_result
        self._clock = clock
        self._on_done = on_done
        self._running: set[Run] = set()
        self._done: list[Run] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._sweep_at = math.inf
        self._closed = False
        self.transactions: Transactions | None = None

    def start(self, runs: Sequence[Run]) -> None:
        """Begin the runs, those for which there is no slot yet in their turn.

        Called from the engine's loop.
        """
        self._backlog.add(runs)
        self._user_loop.call_soon_threadsafe(self._begin, context=self._context)

    def end(self, runs: Sequence[Run], ending: Ending) -> None:
        """Make the runs end early; called from the engine's loop. The first reason stands."""
        self._tell(self._interrupt, runs, ending)

    def close(self) -> None:
        """Take no more threads; those still running are left to themselves."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._tell(self._disarm)
        self._tell(self._processes.close)

    def _tell(self, callback: Callable[..., None], *args: object) -> None:
        """Call on the program's loop, if that was not closed under the worker."""
        with suppress(RuntimeError):  # what asyncio raises for a closed loop
            self._user_loop.call_soon_threadsafe(callback, *args)

    def _begin(self) -> None:
        """Fill the slots; in a context that no handler has changed."""
        create_task = self._user_loop.create_task
        while len(self._running) < self._concurrency and (run := self._backlog.next()) is not None:
            self._running.add(run)
            run.task = create_task(self._run(run), name=run.head.job)

    async def _run(self, run: Run) -> None:
        run.begun = True
        if run.ending is None and run.held_until <= self._clock.monotonic():
            # The process stood still since the claim, so another worker may have the job by now.
            run.ending = Ending.LOST
        try:
            if run.ending is None:
                self._set_deadline(run)
                run.outcome = self._returned(run, await self._call_within(run))
            else:
                run.outcome = _interrupted(run, None)
        except asyncio.CancelledError as exc:
            if run.ending is None and self._host.cancelling():
                # The program ends, and `asyncio.run` cancels all tasks that it left: this one too.
                run.ending = Ending.SHUTDOWN
            run.outcome = _interrupted(run, exc)
        except BaseException as exc:  # noqa: BLE001 - whatever a handler raises is its failure
            run.outcome = _interrupted(run, exc) if run.ending else Failed(error=exc)
        if run.committed:  # whatever came after that
            run.outcome = _SUCCEEDED
        self._running.discard(run)
        self._done.append(run)
        if not self._running and not self._backlog:  # nothing to wait for
            self._flush()
        elif len(self._done) == 1:
            self._user_loop.call_soon(self._go_on, context=self._context)

    def _call_within(self, run: Run) -> Awaitable[object]:
        """Call the handler within its middleware; the answer is to be awaited at once."""
        definition = run.definition
        assert definition is not None  # noqa: S101 - only known jobs are started
        if middleware := self._middleware + definition.middleware:
            assert run.context is not None  # noqa: S101 - made where there is middleware
            return chain(middleware, functools.partial(self._call, run), run.context)
        return self._call(run)

    def _returned(self, run: Run, result: object) -> Outcome:
        if run.ending is Ending.TIMEOUT:  # a thread, or a coroutine that would not be cancelled
            return _interrupted(run, None)
        if not run.committed:
            self.encode(run, result)
        return _SUCCEEDED

    def encode(self, run: Run, result: object) -> None:
        """Keep what the handler returned, or say why it cannot be kept."""
        assert run.definition is not None  # noqa: S101
        try:
            encoded = run.definition.signature.result.encode(result)
        except PayloadError as exc:
            run.problem = str(exc)
            return
        if len(encoded) > self._max_result:
            run.problem = f"the result has {len(encoded)} bytes, {self._max_result} are kept"
        else:
            run.result = encoded

    def _call(self, run: Run) -> Awaitable[object]:
        """Call the handler; the answer is to be awaited at once."""
        definition = run.definition
        assert definition is not None  # noqa: S101
        function = definition.function
        args = (run.context,) if definition.signature.wants_context else ()
        if definition.signature.is_async:
            if definition.transaction is not None and self.transactions is not None:
                handler = functools.partial(function, *args, **run.arguments)
                return self.transactions.call(run, handler)
            coroutine: Awaitable[object] = function(*args, **run.arguments)
            return coroutine
        if definition.run_in == "process":
            if run.deadline is not None:
                run.deadline += CHILD_START
            begun = functools.partial(self._set_deadline, run)
            return self._processes.run(run, on_begin=begun)
        copied = contextvars.copy_context()

        plain = functools.partial(call_plain, function, args, run.arguments)
        if definition.transaction is not None and self.transactions is not None:
            plain = functools.partial(self.transactions.call_plain, run, plain)

        def work() -> object:
            return copied.run(plain)

        return self._thread_ended(run, self._user_loop.run_in_executor(self._threads, work))

    async def _thread_ended(self, run: Run, thread: asyncio.Future[object]) -> object:
        """Wait for a thread, also when the program ends: given back, its job could run twice."""
        while True:
            try:
                return await asyncio.shield(thread)
            except asyncio.CancelledError:
                if thread.done() or not self._host.cancelling():
                    thread.cancel()
                    raise
                if run.context is not None:
                    run.context.ask_to_end()

    def _interrupt(self, runs: Sequence[Run], ending: Ending) -> None:
        for run in runs:
            if run.outcome is not None or run.ending is not None:
                continue
            run.ending = ending
            if run.context is not None:
                run.context.ask_to_end()
            definition = run.definition
            can_be_ended = definition is not None and definition.run_in != "thread"
            # A task that is cancelled before its first step would end without a word.
            if can_be_ended and run.begun and run.task is not None:
                run.task.cancel()

    def _set_deadline(self, run: Run) -> None:
        timeout = run.definition.timeout if run.definition is not None else None
        if timeout is not None:
            run.deadline = self._user_loop.time() + timeout.total_seconds()
            if run.deadline < self._sweep_at:
                self._arm(run.deadline)

    def _arm(self, deadline: float) -> None:
        """Set the one timer for all runs: it stands at the earliest deadline."""
        self._disarm()
        self._sweep_at = deadline
        self._sweep = self._user_loop.call_at(deadline, self._sweep_deadlines)

    def _disarm(self) -> None:
        """Cancel the timer, which would keep the whole worker in memory until then."""
        if self._sweep is not None:
            self._sweep.cancel()
        self._sweep, self._sweep_at = None, math.inf

    def _sweep_deadlines(self) -> None:
        self._sweep, self._sweep_at = None, math.inf
        now = self._user_loop.time()
        live = [run for run in self._running if run.deadline is not None and run.ending is None]
        self._interrupt([run for run in live if run.deadline <= now], Ending.TIMEOUT)  # type: ignore[operator]
        later = [run.deadline for run in live if run.deadline is not None and run.deadline > now]
        if later:
            self._arm(min(later))

    def _go_on(self) -> None:
        self._begin()
        self._flush()

    def _flush(self) -> None:
        done, self._done = self._done, []
        if not done or self._closed:  # told already; or abandoned, and nobody is there to be told
            return
        self._engine_loop.call_soon_threadsafe(self._on_done, done)


def call_plain(
    function: Callable[..., object], args: Sequence[object], arguments: Mapping[str, Any]
) -> object:
    """Call a handler that is no coroutine; to be done in a thread."""
    try:
        return function(*args, **arguments)
    except StopIteration as exc:  # no future can carry it: its waiter would wait for ever
        raise RuntimeError("the handler raised StopIteration") from exc


def _interrupted(run: Run, error: BaseException | None) -> Outcome:
    """Return what a run that was made to end comes to; it may have failed by itself just before."""
    match run.ending:
        case Ending.TIMEOUT:
            timeout = run.definition.timeout if run.definition is not None else None
            return Failed(error=JobTimeoutError(timeout or timedelta(0)))
        case Ending.CANCELLED:
            return Cancelled()
        case Ending.SHUTDOWN | Ending.LOST:
            return Interrupted()
        case None:  # the handler raised CancelledError itself
            return Failed(error=error or asyncio.CancelledError())
