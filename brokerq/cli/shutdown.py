"""How a worker process is asked to stop, and how often."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from brokerq.cli.exits import SIGNALLED

logger = logging.getLogger("brokerq.worker")

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """Counts the requests to stop; all on the program's loop.

    The first one lets running jobs end, the second interrupts them, the third ends the process
    then and there: what it ran is taken over when the leases lapse.

    Attributes:
        signals: Those that came.
        requested: Whether anything asked the worker to stop.
        recycle: Whether it was only to be started anew.
    """

    def __init__(self, *, stop: Callable[[], None], interrupt: Callable[[], object]) -> None:
        self._stop = stop
        self._interrupt = interrupt
        self.signals: list[signal.Signals] = []
        self.requested = False
        self.recycle = False

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the signals from now on."""
        for number in STOPPING:
            loop.add_signal_handler(number, self._on_signal, number)

    def ask(self, why: str, *, recycle: bool = False) -> None:
        """Stop for another reason than a signal; only the first reason counts."""
        if not self.requested:
            self.requested = True
            self.recycle = recycle
            logger.info("stopping: %s", why)
            self._stop()

    def _on_signal(self, number: signal.Signals) -> None:
        self.signals.append(number)
        self.recycle = False
        if len(self.signals) == 1 and self.requested:
            logger.info("%s: stopping already", number.name)
        elif len(self.signals) == 1:
            self.ask(f"{number.name}; running jobs may end, once more interrupts them")
        elif len(self.signals) == 2:  # noqa: PLR2004
            logger.warning("%s again: interrupting running jobs", number.name)
            self._interrupt()
        else:
            end_now(SIGNALLED + number)


def end_now(code: int) -> NoReturn:
    """End the process without waiting for anything: a thread that never returns would hold it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def watch_supervisor(
    descriptor: int, loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]
) -> None:
    """Call `on_end` on the loop once the supervisor has gone, however it went.

    The supervisor alone holds the other end of the pipe and never writes: only its death ends it.
    """

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        loop.call_soon_threadsafe(on_end)

    threading.Thread(target=wait, name="brokerq-supervisor-watch", daemon=True).start()
