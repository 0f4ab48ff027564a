"""RabbitMQ: brokerq beside the raw clients, on a node of its own: `make bench`, part `rabbitmq`."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.bench.cases import PREFIX
from tests.bench.meter import SERVER, Figures
from tests.bench.table import PYTHON, case, in_turns, line
from tests.services.rabbitmq import Node

NONE = "none://"


class Place:
    """One node for all cases, the names of each of which are its own."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.url = node.url

    def floor(self, name: str, *numbers: int | str) -> Callable[[], Figures]:
        """Return what measures a raw client."""

        def measure() -> Figures:
            return case(
                name, self.url, *numbers, module="rabbitmq_floors", environment=self._more()
            )

        return measure

    def ours(self, name: str, *numbers: int, store: bool = False) -> Callable[[], Figures]:
        """Return what measures brokerq, without a store or with a SQLite file."""

        def measure() -> Figures:
            with tempfile.TemporaryDirectory() as folder:
                more = self.environment(Path(folder) if store else None)
                return case(name, self.url, *numbers, environment=more)

        return measure

    def environment(self, folder: Path | None) -> dict[str, str]:
        """Return the variables of a case; its store is in the folder."""
        store = NONE if folder is None else f"sqlite:///{folder}/records.db"
        prefix = f"bench-{uuid.uuid4().hex[:8]}"
        return {**self._more(), "BROKERQ_STORE_URL": store, PREFIX: prefix}

    def latency(self, count: int) -> Figures:
        """Measure from publish to handler start, across processes."""
        with tempfile.TemporaryDirectory() as folder:
            more = self.environment(Path(folder))
            command = [PYTHON, "-m", "tests.bench.cases", "latency", self.url, str(count)]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, text=True, env={**os.environ, **more}
            ) as worker:
                assert worker.stdout is not None
                worker.stdout.readline()
                case("ping_for", self.url, count, environment=more)
                figures: Figures = json.loads(worker.stdout.readlines()[-1])
        return figures

    def _more(self) -> dict[str, str]:
        return {SERVER: str(self._node.pid)}


def measure(rounds: int) -> None:
    """Measure everything."""
    with Node(root=Path(os.environ.get("BROKERQ_TEST_RABBITMQ_ROOT", "/"))) as node:
        print(f"RabbitMQ {node.version}", flush=True)
        place = Place(node)
        _publishing(place, rounds)
        _draining(place, rounds)
        _waiting(place, rounds)


def _publishing(place: Place, rounds: int) -> None:
    floor, ours = place.floor, place.ours
    in_turns(
        "rabbitmq publish one",
        floor("publish_one", 1000),
        ours("publish_one", 1000),
        "",
        rounds=rounds,
    )
    in_turns(
        "rabbitmq publish many",
        floor("publish_many", 10_000),
        ours("publish_many", 10_000),
        "target 0.8",
        rounds=rounds,
    )


def _draining(place: Place, rounds: int) -> None:
    """No-op jobs at 1, 10 and 100; the plain client is no floor, and is shown beside."""
    targets = {1: ("", ""), 10: ("target 0.6", "target 0.2"), 100: ("target 0.6", "target 0.4")}
    for slots, (without, with_store) in targets.items():
        count = 3000 if slots == 1 else 10_000
        plain = [place.floor("drain_plainly", count, slots)()["rate"] for _ in range(rounds)]
        line(f"rabbitmq drain at {slots}: plain aio-pika", plain, "/s", "")
        for name, store, target in (("no store", False, without), ("SQLite", True, with_store)):
            in_turns(
                f"rabbitmq drain at {slots}, {name}",
                place.floor("drain", count, slots),
                place.ours("drain", count, slots, store=store),
                target,
                rounds=rounds,
            )


def _waiting(place: Place, rounds: int) -> None:
    """Jobs that wait, jobs that are awaited, and jobs that are due later."""
    for name, store, target in (("no store", False, "target 4000/s"), ("SQLite", True, "")):
        in_turns(
            f"rabbitmq 0-20 ms at 100, {name}",
            place.floor("drain", 10_000, 100, "short"),
            place.ours("drain_short", 10_000, 100, store=store),
            target,
            rounds=rounds,
        )
    raw = [place.floor("round_trip", 200)() for _ in range(rounds)]
    found = [place.latency(200) for _ in range(rounds)]
    for key, what in (("p50_ms", "p50"), ("p99_ms", "p99")):
        line(f"rabbitmq round trip {what}: raw", [each[key] for each in raw], "ms", "")
        line(f"rabbitmq round trip {what}: brokerq", [each[key] for each in found], "ms", "")
    for name, store in (("no store", False), ("SQLite", True)):
        late = [place.ours("delays", 3000, store=store)() for _ in range(rounds)]
        for key, what, target in (
            ("min_ms", "earliest", "never below 0"),
            ("p50_ms", "p50 late", ""),
            ("p99_ms", "p99 late", "target 100"),
        ):
            values = [each[key] for each in late]
            line(f"rabbitmq delays of 1-10 s, {name}, {what}", values, "ms", target)
    with tempfile.TemporaryDirectory() as folder:
        figures = case("idle", place.url, 10, environment=place.environment(Path(folder)))
    line("rabbitmq idle worker: CPU", [figures["cpu_percent"]], "%", "target 1")
