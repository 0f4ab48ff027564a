"""Servers that the processes of one test run share: the first starts one, the last ends it."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple


class Served(NamedTuple):
    """A server that was started here, and answers."""

    url: str
    process: subprocess.Popen[bytes]


def shared(name: str, start: Callable[[], Served]) -> str:
    """Return the URL of a server, until this process ends.

    Only one of a name is being started at a time, by whatever test run.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    folder = Path(tempfile.gettempdir()) / f"brokerq-{name}-{run}"
    with _turn(name):
        folder.mkdir(exist_ok=True)
        using = os.open(folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(using, fcntl.LOCK_SH)
        atexit.register(partial(_leave, name, folder, using))
        known = folder / "server"
        if not known.exists():
            url, process = start()
            known.write_text(json.dumps({"url": url, "pid": process.pid}), "utf-8")
            atexit.register(process.poll)  # it is kept until then: what is dropped is warned of
        found: str = json.loads(known.read_text("utf-8"))["url"]
    return found


def _leave(name: str, folder: Path, using: int) -> None:
    """End the server if nobody else uses it; whoever started it may have ended before."""
    with _turn(name):
        try:
            fcntl.flock(using, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(using)  # the last one to leave is not to find us here
            return
        known = folder / "server"
        if known.exists():  # else it did not start
            pid: int = json.loads(known.read_text("utf-8"))["pid"]
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder)


@contextmanager
def _turn(name: str) -> Generator[None]:
    path = Path(tempfile.gettempdir()) / f"brokerq-{name}-{os.getuid()}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
