"""The program of a child process: runs one handler after the other, until its worker is gone."""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, BinaryIO

from brokerq.context import Context
from brokerq.engine.crossing import (
    LENGTH,
    Answer,
    Begun,
    Logged,
    Raised,
    Returned,
    Work,
    frame,
    pack_error,
    pack_result,
)
from brokerq.errors import ConfigurationError
from brokerq.job import Job
from brokerq.joblog import JobLog
from brokerq.signature import Signature

HELD_BACK = (signal.SIGINT, signal.SIGTERM)
"""What stops a worker; it then decides about its children itself."""

importing_main = threading.Event()
"""Set in a child while it loads the program's main file, which must not start a worker there."""


def main(channel: int, lifeline: int) -> None:
    """Run what comes through the channel until it is closed."""
    for number in HELD_BACK:
        # Ignoring them would be inherited by programs that a handler starts, and by theirs.
        signal.signal(number, _pay_no_heed)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
    _die_with_parent(lifeline)
    os.set_inheritable(channel, False)  # noqa: FBT003 - positional only
    with socket.socket(fileno=channel) as connection, connection.makefile("rb") as questions:
        while (work := _read(questions)) is not None:
            relay = _Relay(connection)
            relay.end(_run(work, relay))


def _pay_no_heed(_signal: int, _frame: object) -> None:
    """Do nothing: what is running goes on."""


def _die_with_parent(lifeline: int) -> None:
    """Have this process and all it started killed when the worker dies, however it does.

    The other end of the lifeline is open in the worker only. A thread notices that it was closed,
    but would have to wait for a handler that does not let go of the interpreter; Linux needs none.
    """
    os.set_inheritable(lifeline, False)  # noqa: FBT003 - positional only
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        os.read(lifeline, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="brokerq-lifeline", daemon=True).start()


def _read(questions: BinaryIO) -> Work | None:
    header = questions.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return None
    work: Work = pickle.loads(questions.read(*LENGTH.unpack(header)))  # noqa: S301 - the worker's
    return work


def _run(work: Work, relay: _Relay) -> Returned | Raised:
    try:
        function, signature = _handler(work)
        arguments = signature.payload.decode(work.body)
        first = (_ChildContext(work, relay),) if signature.wants_context else ()
        relay.say(Begun())
        result = function(*first, **arguments)
    except BaseException as exc:  # noqa: BLE001 - whatever a handler raises is its failure
        return pack_error(exc)
    return pack_result(result, signature)


def _handler(work: Work) -> tuple[Callable[..., object], Signature]:
    if work.main:
        _load_main(tuple(work.main.items()))
    found: Any = importlib.import_module(work.module)
    for name in work.qualname.split("."):
        found = getattr(found, name)
    if not isinstance(found, Job):
        return found, Signature.of(found, job=work.job, context=Context)
    definition = found.definition
    if definition.name != work.job:
        raise ConfigurationError(
            f"job {work.job!r}: {work.module}.{work.qualname} is job {definition.name!r}: give "
            "each handler that runs in a process a name of its own"
        )
    return definition.function, definition.signature


@cache
def _load_main(how: tuple[tuple[str, str], ...]) -> None:
    """Load the file that the worker was started from, as multiprocessing does, under its guard."""
    from multiprocessing import spawn  # noqa: PLC0415 - only for handlers in a main file

    importing_main.set()
    try:
        spawn.prepare(dict(how))
    finally:
        importing_main.clear()


class _ChildContext(Context):
    """A context whose log is the worker's."""

    __slots__ = ()

    def __init__(self, work: Work, relay: _Relay) -> None:
        super().__init__(
            work.head,
            work.claimed,
            queue=work.queue,
            max_attempts=work.max_attempts,
            hide=work.hide,
        )
        # Known to nobody, so that no set-up of logging in the program's modules can silence it:
        # what is shown of it is decided in the worker.
        logger = logging.Logger("brokerq.job", logging.DEBUG)  # noqa: LOG001
        logger.addHandler(relay)
        self._log = JobLog(
            logger, job_id=self.id, job=self.job, attempt=self.attempt, hide=work.hide
        )


class _Relay(logging.Handler):
    """Sends to the worker what is said about one run, in order and while it lasts."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection: socket.socket | None = connection

    def emit(self, record: logging.LogRecord) -> None:
        self.say(Logged(level=record.levelno, text=record.getMessage()))

    def say(self, message: Answer) -> None:
        """Send; what a thread says that the handler left behind goes nowhere."""
        self.acquire()
        try:
            if self._connection is not None:
                self._connection.sendall(frame(message))
        finally:
            self.release()

    def end(self, answer: Returned | Raised) -> None:
        """Send how the run ended, and nothing after it."""
        self.acquire()
        try:
            self.say(answer)
            self._connection = None
        finally:
            self.release()
