"""Forks the processes of these tests: a program that has imported everything and has one thread.

It reads commands as JSON lines, and answers each with one line, so that a process starts in a few
milliseconds and its end is known exactly, signals included.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from importlib.metadata import entry_points

from brokerq.connect import GROUP
from tests.failure import roles
from tests.failure.jobs import Scribe, build_app
from tests.failure.ledger import Ledger
from tests.failure.spec import Place
from tests.services.ports import HOST
from tests.services.sqs import raw_client


def prepare() -> None:
    """Import also what is imported late, and read what is read late: each process would anew."""
    for adapter in entry_points(group=GROUP):
        adapter.load()
    ledger = Ledger(os.devnull)
    app = build_app(Place(url="memory://", ledger=os.devnull), Scribe(ledger=ledger))
    assert app.settings is not None
    ledger.close()
    raw_client(f"http://{HOST}").close()
    gc.collect()
    gc.freeze()


def start(spec: str) -> int:
    """Fork a process that plays the spec's role; return its id."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        quiet = os.open(os.devnull, os.O_RDWR)
        os.dup2(quiet, 0)
        os.dup2(quiet, 1)
        roles.main(spec)
    return pid


def ended(pid: int) -> int | None:
    """Return a process's exit code, negative for a signal; None while it lives."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return None if found == 0 else os.waitstatus_to_exitcode(status)


def serve() -> None:
    """Obey until the input ends."""
    # Its children inherit this: a worker that is asked to end before it listens hears of it then.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    prepare()
    for line in sys.stdin:
        command = json.loads(line)
        answer = start(command["start"]) if "start" in command else ended(command["ended"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
