"""PostgreSQL: brokerq beside raw psycopg, on a server of its own: part `postgres` of the bench."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.bench.cases import PREFIX
from tests.bench.meter import Figures
from tests.bench.table import PYTHON, case, in_turns, line
from tests.services.postgres import own_schema
from tests.services.postgres_server import Server, own_server
from tests.services.rabbitmq import Node

MILLION = 1_000_000
SETTINGS = {"fsync": "on", "shared_buffers": "512MB", "max_wal_size": "4GB"}


class Place:
    """One server for all cases, each in a schema of its own."""

    def __init__(self, server: Server) -> None:
        self.url = server.url

    def floor(self, name: str, *numbers: int) -> Callable[[], Figures]:
        """Return what measures raw psycopg."""
        return lambda: case(name, self.url, *numbers, module="postgres_floors")

    def ours(self, name: str, *numbers: int, module: str = "cases") -> Callable[[], Figures]:
        """Return what measures brokerq."""

        def measure() -> Figures:
            with own_schema(self.url) as url:
                return case(name, url, *numbers, module=module)

        return measure

    def latency(self, count: int) -> Figures:
        """Measure from publish to handler start, across processes."""
        with own_schema(self.url) as url:
            command = [PYTHON, "-m", "tests.bench.cases", "latency", url, str(count)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
                assert worker.stdout is not None
                worker.stdout.readline()
                case("ping_for", url, count)
                figures: Figures = json.loads(worker.stdout.readlines()[-1])
        return figures


def measure(rounds: int) -> None:
    """Measure everything."""
    with own_server(SETTINGS) as server:
        ((version,),) = server.run("SHOW server_version")
        print(f"PostgreSQL {version}", flush=True)
        place = Place(server)
        _rates(place, rounds)
        _latencies(place, rounds)
        _claims(place, rounds)
        _beside_rabbitmq(place, rounds)


def _rates(place: Place, rounds: int) -> None:
    for name, count, target in (("one", 1000, ""), ("many", 20_000, "target 0.3")):
        case_ = f"publish_{name}"
        floor, ours = place.floor(case_, count), place.ours(case_, count)
        in_turns(f"postgres publish {name}", floor, ours, target, rounds=rounds)
    for slots, count, target in (
        (1, 2000, ""),
        (10, 10_000, "target 0.3"),
        (100, 20_000, "target 0.3"),
    ):
        floor, ours = place.floor("drain", count, slots), place.ours("drain", count, slots)
        in_turns(f"postgres drain at {slots}", floor, ours, target, rounds=rounds)


def _latencies(place: Place, rounds: int) -> None:
    raw = [place.floor("latency", 200)() for _ in range(rounds)]
    found = [place.latency(200) for _ in range(rounds)]
    for key, what in (("p50_ms", "p50"), ("p99_ms", "p99")):
        line(f"postgres publish to start {what}: raw", [each[key] for each in raw], "ms", "")
        line(f"postgres publish to start {what}: brokerq", [each[key] for each in found], "ms", "")


def _claims(place: Place, rounds: int) -> None:
    """Claims of 100 with nothing else in the table, and with a million rows waiting."""
    for snapshot, name in ((0, ""), (1, ", long snapshot")):
        pairs = [
            tuple(
                place.ours("claims", waiting, snapshot, module="postgres_claims")()["p50_ms"]
                for waiting in (0, MILLION)
            )
            for _ in range(min(rounds, 3))
        ]
        line(f"postgres claim of 100{name}: none waiting", [few for few, _ in pairs], "ms", "")
        line(f"postgres claim of 100{name}: 1 million", [many for _, many in pairs], "ms", "")
        ratios = [many / few for few, many in pairs]
        line(f"postgres claim of 100{name}: ratio", ratios, "", "target at most 1.2")


def _beside_rabbitmq(place: Place, rounds: int) -> None:
    """What the records cost a job of RabbitMQ's."""
    with Node(root=Path(os.environ.get("BROKERQ_TEST_RABBITMQ_ROOT", "/"))) as node:
        for slots in (10, 100):

            def without(slots: int = slots) -> Figures:
                return _drain_rabbitmq(node.url, "none://", slots)

            def with_store(slots: int = slots) -> Figures:
                with own_schema(place.url) as url:
                    return _drain_rabbitmq(node.url, url, slots)

            name = f"rabbitmq drain at {slots}: none://"
            pairs = [(without(), with_store()) for _ in range(rounds)]
            line(name, [few["rate"] for few, _ in pairs], "/s", "")
            line(f"rabbitmq drain at {slots}: PostgreSQL", [b["rate"] for _, b in pairs], "/s", "")
            cost = [1e6 / b["rate"] - 1e6 / a["rate"] for a, b in pairs]
            line(f"rabbitmq drain at {slots}: the store, per job", cost, "us", "")


def _drain_rabbitmq(url: str, store: str, slots: int) -> Figures:
    more = {"BROKERQ_STORE_URL": store, PREFIX: f"bench-{uuid.uuid4().hex[:8]}"}
    return case("drain", url, 10_000, slots, environment=more)
