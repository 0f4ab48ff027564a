"""SIGQUIT: what every thread and task is doing, without stopping anything."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Sequence

STDERR = 2


def dump_on_quit(
    loop: asyncio.AbstractEventLoop, loops: Sequence[asyncio.AbstractEventLoop]
) -> None:
    """Have SIGQUIT write threads at once, and tasks as soon as `loop` gets to it."""
    loop.add_signal_handler(signal.SIGQUIT, dump_tasks, loops)
    faulthandler.register(signal.SIGQUIT, file=STDERR, all_threads=True, chain=True)


def dump_tasks(loops: Sequence[asyncio.AbstractEventLoop]) -> None:
    """Write the stack of every task to stderr."""
    for loop in loops:
        for task in asyncio.all_tasks(loop):
            task.print_stack(file=sys.stderr)
    sys.stderr.flush()
