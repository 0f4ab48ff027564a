"""Runs handlers in child processes, which can be killed.

A pool over multiprocessing would not do: there the death of one child can leave a shared lock
taken, and what a handler started outlives it. A child here leads a session of its own, so that it
is killed with all it started and hears no signal meant for the worker's terminal; it shares nothing
with its neighbours; and it loads the module of the handler instead of the program's main file,
unless the handler is there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, suppress

from brokerq.context import Context
from brokerq.engine.child import HELD_BACK, importing_main
from brokerq.engine.crossing import (
    LENGTH,
    Answer,
    Begun,
    Logged,
    Raised,
    Returned,
    Work,
    frame,
    unpack_error,
    unpack_result,
)
from brokerq.engine.run import Run
from brokerq.errors import ConfigurationError
from brokerq.outcome import ProcessDiedError

_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; "
    "from brokerq.engine.child import main; main({channel}, {lifeline})"
)


class Processes:
    """The children of one worker: as many as jobs ran in processes at one time, and kept for more.

    Used on one event loop only. A child that dies by itself is replaced when it is needed.
    """

    def __init__(self, threads: Executor) -> None:
        """Make a pool without children.

        Args:
            threads: Where to wait for the death of a child, with a thread for each run.
        """
        if importing_main.is_set():
            raise ConfigurationError(
                "a child process loads the main file of the program to find a handler there: put "
                'what starts the worker under `if __name__ == "__main__":`, or move the handler to '
                "a module of its own"
            )
        self._threads = threads
        self._idle: list[Child] = []
        self._closed = False

    async def run(self, run: Run, *, on_begin: Callable[[], None]) -> object:
        """Return what the handler returned, or raise what it raised; cancelling kills the child.

        `on_begin` is called when the handler is; a child starts and loads the program before. What
        the handler logs is written to the run's own context as it comes. Raises `ProcessDiedError`
        if the child dies by itself.
        """
        question = frame(_work(run))
        while True:
            reused = bool(self._idle)
            child = self._idle.pop() if reused else Child()
            try:
                answer = await _converse(child, question, run.context, on_begin)
            except BaseException:
                await self._kill(child)
                raise
            if answer is None:
                exit_code = await self._kill(child)
                if child.begun or not reused:
                    raise ProcessDiedError(exit_code)
                continue  # it had died while it was idle, which is not this job's fault
            await self._keep(child)
            if isinstance(answer, Raised):
                raise unpack_error(answer)
            return unpack_result(answer)

    def close(self) -> None:
        """Kill the children that are idle; the others follow when their runs end."""
        self._closed = True
        for child in self._idle:
            child.kill()
        for child in self._idle:
            child.wait()
        self._idle.clear()

    async def _keep(self, child: Child) -> None:
        if self._closed:
            await self._kill(child)
        else:
            self._idle.append(child)

    async def _kill(self, child: Child) -> int:
        child.kill()
        if self._closed:  # and so are the threads
            return child.wait()
        return await asyncio.get_running_loop().run_in_executor(self._threads, child.wait)


class Child:
    """A child process, and the ways to it.

    Attributes:
        begun: Whether the handler of its latest run was called.
    """

    def __init__(self) -> None:
        self.begun = False
        with ExitStack() as undo:
            self._connection, theirs = socket.socketpair()
            undo.enter_context(self._connection)
            watched, self._lifeline = os.pipe()
            undo.callback(os.close, self._lifeline)
            try:
                self._process = _start(theirs.fileno(), watched)
            finally:
                theirs.close()
                os.close(watched)
            undo.pop_all()
        self._connection.setblocking(False)  # noqa: FBT003 - positional only

    async def send(self, data: bytes) -> None:
        """Send; raises `ConnectionError` if the child is dead."""
        await asyncio.get_running_loop().sock_sendall(self._connection, data)

    async def receive(self) -> Answer:
        """Return what it says next; raises `EOFError` or `ConnectionError` if it is dead."""
        [size] = LENGTH.unpack(await self._read(LENGTH.size))
        answer: Answer = pickle.loads(await self._read(size))  # noqa: S301 - a child of ours
        return answer

    async def _read(self, size: int) -> bytearray:
        loop, data = asyncio.get_running_loop(), bytearray(size)
        rest = memoryview(data)
        while rest:
            count = await loop.sock_recv_into(self._connection, rest)
            if not count:
                raise EOFError
            rest = rest[count:]
        return data

    def kill(self) -> None:
        """Kill it and whatever it started; harmless if it is dead."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Block until it is gone, for milliseconds once it was killed; return its exit code."""
        exit_code = self._process.wait()
        self._connection.close()
        os.close(self._lifeline)
        return exit_code


def _start(channel: int, lifeline: int) -> subprocess.Popen[bytes]:
    program = _PROGRAM.format(path=sys.path, channel=channel, lifeline=lifeline)
    # Until the child has handlers for them. It inherits what is blocked in the thread it comes of.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        return subprocess.Popen(  # noqa: S603 - this interpreter and a program of ours
            [sys.executable, "-u", "-c", program],  # -u: a child that is killed flushes nothing
            stdin=subprocess.DEVNULL,
            pass_fds=(channel, lifeline),
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def _converse(
    child: Child, question: bytes, context: Context | None, on_begin: Callable[[], None]
) -> Returned | Raised | None:
    """Return how the run ended in the child; None: with the child's death."""
    child.begun = False
    try:
        await child.send(question)
        while True:
            match await child.receive():
                case Begun():
                    child.begun = True
                    on_begin()
                case Logged(level=level, text=text):
                    _log(context, level, text)
                case Returned() | Raised() as answer:
                    return answer
    except (EOFError, ConnectionError):
        return None


def _log(context: Context | None, level: int, text: str) -> None:
    assert context is not None  # noqa: S101 - it was called with one
    log = context.log
    write = {logging.DEBUG: log.debug, logging.WARNING: log.warning, logging.ERROR: log.error}
    write.get(level, log.info)(text)


def _work(run: Run) -> Work:
    definition = run.definition
    assert definition is not None  # noqa: S101 - only known jobs are started
    function = definition.function
    return Work(
        job=definition.name,
        module=function.__module__,
        qualname=function.__qualname__,
        main=_main() if function.__module__ == "__main__" else {},
        body=run.message.body,
        head=run.head._replace(user=dict(run.head.user)),
        claimed=run.claimed,
        queue=run.delivery.lane.queue,
        max_attempts=run.policy.max_attempts,
        hide=run.hide,
    )


def _main() -> Mapping[str, str]:
    from multiprocessing import spawn  # noqa: PLC0415 - only for handlers in a main file

    how = spawn.get_preparation_data("brokerq")
    return {name: str(how[name]) for name in how if name.startswith("init_main_from_")}
