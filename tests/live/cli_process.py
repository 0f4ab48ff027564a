"""Runs the command line as other people do: in processes of its own, on a SQLite file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")
PATIENCE = 20.0


def until(condition: Callable[[], T], *, what: str) -> T:
    """Return what the condition gives once that is true; fail if it takes too long."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"it took too long until {what}"
        time.sleep(0.02)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A command under way; its stderr goes to a file."""

    process: subprocess.Popen[str]
    log: Path

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def code(self) -> int:
        """Return the exit code, waiting for it."""
        return self.process.wait(PATIENCE)

    def logged(self) -> str:
        return self.log.read_text("utf-8")

    def until_logged(self, text: str, *, times: int = 1) -> None:
        until(lambda: self.logged().count(text) >= times, what=f"{text!r} is logged")

    def children(self) -> list[int]:
        found = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [int(line) for line in found.stdout.split()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """A folder with an app, and commands in it."""

    folder: Path
    environment: dict[str, str]
    started: list[Running] = field(default_factory=list[Running])

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def do(self, *arguments: object) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def read(self, *arguments: object) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.do(*arguments, "--json")))

    def start(self, *arguments: object) -> Running:
        log = self.folder / f"stderr.{len(self.started)}"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                self._command(arguments),
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
            )
        running = Running(process=process, log=log)
        self.started.append(running)
        return running

    def state_of(self, job_id: str) -> dict[str, Any]:
        return cast("dict[str, Any]", self.read("jobs", "show", job_id)["job"])

    def nap(self, seconds: float, name: str = "nap") -> str:
        return self.do("publish", "nap", "--arg", f"seconds={seconds}", "--arg", f"name={name}")

    def pid_jobs(self, count: int) -> list[str]:
        """Publish so many jobs that leave a file each; return their ids."""
        program = (
            "import shop\n"
            f"for n in range({count}):\n"
            "    print(shop.pid.publish_sync(n).id)\n"
            "shop.bq.close_sync()"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    def pids(self, pattern: str) -> set[int]:
        """Return the processes that left files of this pattern, which ends in their pid."""
        return {int(path.name.split(".")[-1]) for path in self.folder.glob(pattern)}

    def until_file(self, pattern: str) -> None:
        until(lambda: list(self.folder.glob(pattern)), what=f"there is a file {pattern}")

    def close(self) -> None:
        """End what a failed test left running."""
        for running in self.started:
            for pid in [*running.children(), running.process.pid]:
                if running.process.poll() is None:
                    os.kill(pid, signal.SIGKILL)
            running.process.wait()

    @staticmethod
    def _command(arguments: tuple[object, ...]) -> list[str]:
        return [sys.executable, "-m", "brokerq", *map(str, arguments)]


def is_alive(pid: int) -> bool:
    """Tell whether the process is there and not only waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
