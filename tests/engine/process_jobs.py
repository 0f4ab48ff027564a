"""Handlers that run in child processes, which have to find them in a module."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from brokerq import BrokerQ, Context, Drop, Reject, RetryAfter, Snooze

app = BrokerQ("processes", url="memory://processes")


@app.job(run_in="process", tags=["declared"])
def double(number: int) -> int:
    return 2 * number


def introduce(ctx: Context, name: str, *, loud: bool = False) -> dict[str, object]:
    ctx.log.info("introducing", name=name)
    ctx.log.debug("not kept")
    ctx.log.warning("loud" if loud else "quiet")
    return {
        "pid": os.getpid(),
        "cancelled": ctx.cancelled,
        "id": ctx.id,
        "job": ctx.job,
        "queue": ctx.queue,
        "attempt": ctx.attempt,
        "max_attempts": ctx.max_attempts,
        "effect_key": ctx.effect_key,
        "fence": ctx.fence,
        "correlation": ctx.correlation,
        "tags": list(ctx.tags),
        "headers": dict(ctx.headers),
        "first_at": ctx.first_at.isoformat(),
    }


def pid() -> int:
    return os.getpid()


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


class OddlyMadeError(Exception):
    """Cannot be made from its `args`, and holds what cannot be pickled."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.lock = threading.Lock()


def fail(ctx: Context, how: str) -> str:
    ctx.log.error("about to fail", how=how)
    if ctx.attempt > 1:
        return "at last"
    match how:
        case "reject":
            raise Reject("never")
        case "retry":
            raise RetryAfter("20ms", "busy")
        case "snooze":
            raise Snooze("1h", "later")
        case "drop":
            raise Drop("not needed")
        case "odd":
            raise OddlyMadeError(418, "teapot")
        case "exit":
            raise SystemExit(3)
        case "stop":
            raise StopIteration(1)
        case "local":

            class LocalError(Exception):
                pass

            raise LocalError("nobody knows me")
        case _:
            raise KeyError(how)


def ignore_signals() -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    return "unmoved"


def run_stubborn_program() -> int:
    """Start a program that has no handler for SIGTERM and see that it can be stopped by it."""
    with subprocess.Popen(["sleep", "60"]) as program:
        program.terminate()
        return program.wait()


def die(how: str) -> None:
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    os._exit(3)


def hang(ctx: Context, folder: str) -> str:
    """Run for ever with a program of its own, the first time, and write down who they are."""
    notes = Path(folder, "pids")
    if notes.exists():
        return "again"
    ctx.log.info("hanging")
    program = subprocess.Popen(["sleep", "600"])
    written = notes.with_suffix(".new")
    written.write_text(f"{os.getpid()} {program.pid}", encoding="utf-8")
    written.rename(notes)
    re.match(r"(a+)+$", "a" * 64 + "b")  # for years, without letting go of the interpreter
    return "not reached"


def lines() -> Iterator[int]:
    """Return what can be JSON but not be pickled."""
    return (number for number in range(3))


def lock() -> threading.Thread:
    """Return what can be neither."""
    return threading.current_thread()


def talk_on(ctx: Context) -> None:
    """Leave a thread behind that writes to the log of a job that has ended."""

    def talk() -> None:
        time.sleep(0.1)
        ctx.log.info("too late")

    threading.Thread(target=talk).start()
