"""SQS: brokerq beside boto3, on a stub that costs next to nothing: `make bench`, part `sqs`.

What one call costs on AWS itself, in time and money, is not measured here: how many calls a job
takes, and how much of a processor.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from tests.bench.cases import PREFIX
from tests.bench.meter import SERVER, Figures
from tests.bench.table import PYTHON, case, in_turns, line
from tests.services.ports import HOST, free_port
from tests.services.sqs import CREDENTIALS, REGION

NONE = "none://"
CALLS = "calls_per_job"
SETTLED = 45
"""Seconds after which an idle worker's polls are as long as they get."""
WATCHED = 120
FAR = 15
"""Milliseconds that an answer may take within a region."""


class Place:
    """One stub for all cases, the names of each of which are its own."""

    def __init__(self, port: int, pid: int) -> None:
        self.endpoint = f"http://{HOST}:{port}"
        self.url = f"sqs://{REGION}?endpoint={self.endpoint}"
        self._pid = pid

    def floor(self, name: str, count: int) -> Callable[[], Figures]:
        """Return what measures boto3."""

        def measure() -> Figures:
            return case(
                name, self.endpoint, count, module="sqs_floors", environment=self.environment(None)
            )

        return lambda: self._counted(measure, count)

    def ours(
        self, name: str, count: int, *numbers: int, store: bool = False
    ) -> Callable[[], Figures]:
        """Return what measures brokerq, without a store or with a SQLite file."""

        def measure() -> Figures:
            with tempfile.TemporaryDirectory() as folder:
                more = self.environment(Path(folder) if store else None)
                return case(name, self.url, count, *numbers, environment=more)

        return lambda: self._counted(measure, count)

    def environment(self, folder: Path | None) -> dict[str, str]:
        """Return the variables of a case; its store is in the folder."""
        store = NONE if folder is None else f"sqlite:///{folder}/records.db"
        prefix = f"bench-{uuid.uuid4().hex[:8]}"
        own = {SERVER: str(self._pid), "BROKERQ_STORE_URL": store, PREFIX: prefix}
        return {**CREDENTIALS, **own}

    def calls(self) -> dict[str, int]:
        """Return what was called how often so far."""
        with urlopen(self.endpoint) as answer:  # noqa: S310 - our own server
            calls: dict[str, int] = json.load(answer)
        return calls

    def _counted(self, measure: Callable[[], Figures], count: int) -> Figures:
        """Add the calls that the case made from its beginning to its end, publishing included."""
        before = sum(self.calls().values())
        figures = measure()
        return {**figures, CALLS: (sum(self.calls().values()) - before) / count}

    def latency(self, count: int, *how: int) -> Figures:
        """Measure from publish to handler start, across processes."""
        with tempfile.TemporaryDirectory() as folder:
            more = self.environment(Path(folder))
            with _process("latency", self.url, count, environment=more) as worker:
                assert worker.stdout is not None
                worker.stdout.readline()
                case("ping_for", self.url, count, *how, environment=more)
                figures: Figures = json.loads(worker.stdout.readlines()[-1])
        return figures

    def idle(self) -> Figures:
        """Return what a worker with nothing to do costs, once it has become calm."""
        with tempfile.TemporaryDirectory() as folder:
            more = self.environment(Path(folder))
            seconds = SETTLED + WATCHED + 1
            with _process("idle", self.url, seconds, environment=more) as worker:
                time.sleep(SETTLED)
                before = self.calls()
                time.sleep(WATCHED)
                after = self.calls()
                assert worker.stdout is not None
                figures: Figures = json.loads(worker.stdout.readlines()[-1])
        per_hour = 3600 / WATCHED
        for action in ("ReceiveMessage", "GetQueueAttributes"):
            figures[action] = (after.get(action, 0) - before.get(action, 0)) * per_hour
        figures["calls"] = (sum(after.values()) - sum(before.values())) * per_hour
        return figures


@contextmanager
def _process(
    name: str, *arguments: str | int, environment: dict[str, str], module: str = "cases"
) -> Generator[subprocess.Popen[str]]:
    """Run something beside this program, to be read from."""
    command = [PYTHON, "-m", f"tests.bench.{module}", name, *map(str, arguments)]
    environment = {**os.environ, **environment}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    with process:
        yield process


@contextmanager
def stub(latency: int = 0) -> Generator[Place]:
    """Run a stub in a process of its own, so many milliseconds away."""
    port = free_port()
    command = [PYTHON, "-m", "tests.bench.sqs_stub", str(port), str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield Place(port, server.pid)
        finally:
            server.kill()


def measure(rounds: int) -> None:
    """Measure everything."""
    with stub() as place:
        _publishing(place, rounds)
        _draining(place, rounds)
        _waiting(place, rounds)
    with stub(FAR) as place:
        _short_jobs(place, rounds, f", {FAR} ms away")


def _publishing(place: Place, rounds: int) -> None:
    for name, count, target in (("one", 500, ""), ("many", 10_000, "target 1.5")):
        in_turns(
            f"sqs publish {name}",
            place.floor(f"publish_{name}", count),
            place.ours(f"publish_{name}", count),
            "",
            rounds=rounds,
            cpu_target=target,
        )


def _draining(place: Place, rounds: int) -> None:
    """No-op jobs, and jobs that take some time; beside receiving and deleting."""
    for slots in (100, 10):
        for name, store, target in (("no store", False, "1.8"), ("SQLite", True, "2.2")):
            in_turns(
                f"sqs drain at {slots}, {name}",
                place.floor("drain", 10_000),
                place.ours("drain", 10_000, slots, store=store),
                "calls: target 0.35",
                rounds=rounds,
                cpu_target=f"target {target}" if slots == 100 else "",
            )
    _short_jobs(place, rounds, "")


def _short_jobs(place: Place, rounds: int, where: str) -> None:
    for slots in (100, 10):
        found = [place.ours("drain_short", 3000, slots, store=True)() for _ in range(rounds)]
        name = f"sqs 0-20 ms at {slots}, SQLite{where}"
        line(f"{name}: brokerq", [each["rate"] for each in found], "/s", "")
        line(f"{name}: brokerq, API calls per job", [e[CALLS] for e in found], "", "target 0.4")


def _waiting(place: Place, rounds: int) -> None:
    raw = [place.floor("round_trip", 200)() for _ in range(rounds)]
    calm = [place.latency(200) for _ in range(rounds)]
    loaded = [place.latency(3000, 15, 50) for _ in range(rounds)]
    for name, found in (("raw", raw), ("brokerq", calm), ("brokerq at 300/s", loaded)):
        for key, what in (("p50_ms", "p50"), ("p99_ms", "p99")):
            line(f"sqs round trip {what}: {name}", [each[key] for each in found], "ms", "")
    figures = place.idle()
    for key in ("calls", "ReceiveMessage", "GetQueueAttributes"):
        line(f"sqs idle worker: {key} an hour", [figures[key]], "", "")
    line("sqs idle worker: CPU", [figures["cpu_percent"]], "%", "target 1")
