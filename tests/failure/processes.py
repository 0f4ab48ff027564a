"""Starts, signals and awaits the processes of a test."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.failure.spec import Spec
from tests.services.sqs import CREDENTIALS

ROOT = Path(__file__).parents[2]
LOOK = 0.05
PATIENCE = 20.0


class Spawner:
    """The program that forks; one for a whole test run."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.failure.spawner"],
            cwd=ROOT,
            env={**os.environ, **CREDENTIALS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **command: str | int) -> int | None:
        """Have a command carried out; return the answer."""
        sending, receiving = self._process.stdin, self._process.stdout
        assert sending is not None
        assert receiving is not None
        sending.write(json.dumps(command) + "\n")
        sending.flush()
        answer: int | None = json.loads(receiving.readline())
        return answer

    def start(self, spec: Spec) -> Process:
        """Start a process."""
        pid = self.ask(start=spec.to_json())
        assert pid is not None
        return Process(self, pid, spec)

    def close(self) -> None:
        """End the program; its processes must have ended before."""
        self._process.communicate(timeout=PATIENCE)


class Process:
    """One process, in a `with` block so that it outlives no test."""

    def __init__(self, spawner: Spawner, pid: int, spec: Spec) -> None:
        self.pid = pid
        self.spec = spec
        self._spawner = spawner
        self._code: int | None = None

    @property
    def code(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        if self._code is None:
            self._code = self._spawner.ask(ended=self.pid)
        return self._code

    def send(self, number: int) -> None:
        """Send it a signal; harmless once it has ended."""
        if self.code is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end, as a supervisor does."""
        self.send(signal.SIGTERM)

    async def stop(self) -> None:
        """Stop it where it is; returns when it stands still."""
        self.send(signal.SIGSTOP)
        await until(self.is_stopped, f"process {self.pid} to stop")

    def resume(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)

    async def wait(self, patience: float = PATIENCE) -> int:
        """Return its exit code once it has ended."""
        await until(lambda: self.code is not None, f"process {self.pid} to end", patience)
        assert self._code is not None
        return self._code

    def is_stopped(self) -> bool:
        """Tell whether a SIGSTOP has taken effect."""
        status = Path(f"/proc/{self.pid}/stat").read_text("ascii")
        return status.rpartition(")")[2].split()[0] == "T"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.send(signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE
        while self.code is None and time.monotonic() < deadline:
            time.sleep(LOOK)


async def until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Wait until the condition holds. Raises `TimeoutError` when it takes too long."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience} s for {what}")
        await asyncio.sleep(LOOK)
