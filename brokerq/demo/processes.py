"""The demo's other processes: the service, and the workers of which one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

GRACE = 10.0
LOG_LINES = 15
CONCURRENCY = 20
_WORKER = ("-m", "brokerq", "worker", "brokerq.demo.app:bq", "--concurrency", str(CONCURRENCY))


class DemoError(Exception):
    """The demo itself cannot go on; says why."""


@contextmanager
def service(folder: Path, *, run: str, rows: int, seed: int) -> Generator[str]:
    """Run the service; give its address."""
    arguments = (str(folder), run, str(rows), str(seed))
    process = subprocess.Popen(  # noqa: S603 - this package's own program
        [sys.executable, "-m", "brokerq.demo.service", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C is for the demo, which then ends its processes in order
    )
    with process:  # closes its standard input, which ends it, and waits
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        address = process.stdout.readline().strip()
        if not address:
            raise DemoError("the service did not start")
        yield address


class Workers:
    """Two `brokerq worker` processes and their log files; leaving the block stops them.

    They also stop when the demo is gone, however it went: they are told to watch a pipe whose other
    end it holds.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._watched, self._held = os.pipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        os.close(self._watched)
        os.close(self._held)

    def start(self, number: int) -> int:
        """Start worker `number`, as its own process; return the process id."""
        with self._log(number).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - this package's own program
                [sys.executable, *_WORKER, "--supervisor", str(self._watched)],
                env=self._environment,
                pass_fds=[self._watched],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes[number] = process
        return process.pid

    def kill(self, number: int) -> int:
        """Kill worker `number` with SIGKILL, as a crash would; return its process id."""
        process = self._processes.pop(number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        return process.pid

    def check(self) -> None:
        """Raise `DemoError`, with the end of its log, if a worker ended by itself."""
        for number, process in self._processes.items():
            code = process.poll()
            if code is not None:
                raise DemoError(
                    f"worker {number} ended by itself with {code}:\n{self.tail(number)}"
                )

    def tail(self, number: int) -> str:
        """Return the end of a worker's log."""
        lines = self._log(number).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])

    def _log(self, number: int) -> Path:
        return self._folder / f"worker-{number}.log"
