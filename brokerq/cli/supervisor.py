"""Several worker processes under one: restarted when they crash, recycled when they are spent.

The children watch a pipe whose other end only the supervisor holds, so they stop by themselves
however it ends. They are in process groups of their own: a Ctrl-C in the terminal reaches them
once, from here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from brokerq.cli.exits import SIGNALLED, Exit
from brokerq.cli.logs import configure_logs
from brokerq.cli.plan import WorkerPlan
from brokerq.settings import load_settings

logger = logging.getLogger("brokerq.supervisor")

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Next(Enum):
    """What follows when a worker process has ended."""

    END = "end"
    """It was to end: nothing follows."""
    RECYCLE = "recycle"
    """Start another at once."""
    RESTART = "restart"
    """It crashed: start another after a while."""
    GIVE_UP = "give up"
    """It cannot start, and another could not either: stop all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before a crashed process is started again, in seconds.

    Attributes:
        steady: A process that lived for so long starts the count anew.
    """

    first: float = 0.5
    longest: float = 30.0
    steady: float = 60.0

    def wait(self, crashes: int) -> float:
        """Return the wait after so many crashes in a row, the first being 1."""
        return min(self.longest, self.first * 2.0 ** min(crashes - 1, 20))


def what_next(code: int, *, stopping: bool) -> Next:
    """Decide by the exit code (negative: by that signal) of a worker process. Pure."""
    if stopping or code == Exit.OK:
        return Next.END
    if code == Exit.RECYCLE:
        return Next.RECYCLE
    return Next.GIVE_UP if code in {Exit.USAGE, Exit.NOT_FOUND} else Next.RESTART


def drained(code: int) -> bool:
    """Tell whether a process that was asked to stop left nothing behind.

    One that SIGTERM or SIGINT itself ended had not begun to work yet.
    """
    return code in {Exit.OK, Exit.RECYCLE, -signal.SIGTERM, -signal.SIGINT}


def supervise(plan: WorkerPlan, processes: int) -> int:
    """Run so many worker processes until they end or a signal stops them; return the exit code."""
    level = plan.level or load_settings().log_level
    configure_logs(log_format=plan.log_format, level=level)
    reading, writing = os.pipe()
    try:
        command = [sys.executable, "-m", "brokerq", *plan.arguments(supervisor=reading)]
        supervisor = Supervisor(command, processes=processes, inherit=(reading,))
        return asyncio.run(supervisor.run())
    finally:
        os.close(reading)
        os.close(writing)


class Supervisor:
    """Keeps worker processes alive.

    Args:
        command: Starts one of them.
        processes: How many.
        inherit: File descriptors that they keep open.
        backoff: Between crashes.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        processes: int,
        inherit: Sequence[int] = (),
        backoff: Backoff | None = None,
    ) -> None:
        self._command = tuple(command)
        self._count = processes
        self._inherit = tuple(inherit)
        self._backoff = Backoff() if backoff is None else backoff
        self._alive: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._signals: list[signal.Signals] = []
        self._code = int(Exit.OK)

    async def run(self) -> int:
        """Return when all processes have ended for good."""
        loop = asyncio.get_running_loop()
        for number in FORWARDED:
            loop.add_signal_handler(number, self._forward, number)
        async with asyncio.TaskGroup() as group:
            for place in range(self._count):
                group.create_task(self._keep(place))
        if self._code == Exit.OK and len(self._signals) > 1:
            return SIGNALLED + self._signals[-1]
        return self._code

    def _forward(self, number: signal.Signals) -> None:
        if number != signal.SIGQUIT:
            self._signals.append(number)
            self._stopping.set()
        self._send(number)

    def _send(self, number: signal.Signals) -> None:
        for process in self._alive.values():
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                process.send_signal(number)

    async def _keep(self, place: int) -> None:
        """Keep one process alive until it is to end."""
        loop = asyncio.get_running_loop()
        crashes = 0
        while not self._stopping.is_set():
            begun = loop.time()
            code = await self._live(place)
            match what_next(code, stopping=self._stopping.is_set()):
                case Next.END:
                    self._ended(code)
                    return
                case Next.GIVE_UP:
                    self._code = code
                    self._stopping.set()
                    self._send(signal.SIGTERM)
                    return
                case Next.RECYCLE:
                    crashes = 0
                    logger.info("worker process %d is spent and started anew", place + 1)
                case Next.RESTART:
                    lived = loop.time() - begun
                    crashes = 1 if lived >= self._backoff.steady else crashes + 1
                    await self._pause(place, code, self._backoff.wait(crashes))

    async def _live(self, place: int) -> int:
        """Start a process and wait for its end; return its exit code."""
        process = await asyncio.create_subprocess_exec(
            *self._command, pass_fds=self._inherit, process_group=0
        )
        self._alive[place] = process
        try:
            for number in self._signals:  # they came while it was being started
                process.send_signal(number)
            return await process.wait()
        finally:
            del self._alive[place]

    async def _pause(self, place: int, code: int, wait: float) -> None:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        logger.warning("worker process %d ended %s; another in %.1f s", place + 1, how, wait)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._stopping.wait()

    def _ended(self, code: int) -> None:
        if self._code == Exit.OK and len(self._signals) < 2 and not drained(code):  # noqa: PLR2004
            self._code = Exit.FAILED
