"""SIGQUIT: what every thread and task is doing, without stopping anything."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType

STDERR = 2


def dump_on_quit(
    loop: asyncio.AbstractEventLoop, loops: Sequence[asyncio.AbstractEventLoop]
) -> None:
    """Have SIGQUIT write threads at once, and tasks as soon as `loop` gets to it."""
    loop.add_signal_handler(signal.SIGQUIT, dump_tasks, loops)
    faulthandler.register(signal.SIGQUIT, file=STDERR, all_threads=True, chain=True)


def dump_tasks(loops: Sequence[asyncio.AbstractEventLoop]) -> None:
    """Write to stderr where every task waits."""
    for loop in loops:
        for task in asyncio.all_tasks(loop):
            stack = traceback.StackSummary.extract(_waiting(task.get_coro()))
            sys.stderr.write(f"Task {task.get_name()} (most recent call last):\n")
            sys.stderr.writelines(stack.format())
    sys.stderr.flush()


def _waiting(coroutine: object) -> Iterator[tuple[FrameType, int]]:
    """Follow a coroutine to what it awaits; a task's own stack ends at its outermost one."""
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        yield frame, frame.f_lineno
        coroutine = getattr(coroutine, "cr_await", None)
