"""Measures brokerq beside the raw clients and prints ratios with their spread: `make bench`.

Every figure comes from a fresh process and file; floor and brokerq take turns, so that both see the
same machine. The targets are what the project wants on two quiet cores.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import floors, postgres, rabbitmq, sqs
from tests.bench.meter import Figures
from tests.bench.table import PYTHON, case, in_turns, line

ROUNDS = 5


def beside(
    name: str,
    floor: Callable[[Path], float],
    ours: Callable[[Path], Figures],
    target: str,
    *,
    rounds: int,
) -> None:
    """Measure floor and brokerq in turns, each in a fresh folder."""

    def measure_floor() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            return {"rate": floor(Path(folder))}

    def measure_ours() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            return ours(Path(folder))

    in_turns(name, measure_floor, measure_ours, target, rounds=rounds)


def sqlite(folder: Path) -> str:
    """Return the URL of a file in the folder."""
    return f"sqlite:///{folder}/bench.db"


def rates(rounds: int) -> None:
    """Publishing and draining."""
    beside(
        "sqlite publish one",
        lambda f: floors.insert_one(f, 1000),
        lambda f: case("publish_one", sqlite(f), 1000),
        "target 0.5",
        rounds=rounds,
    )
    beside(
        "sqlite publish many",
        lambda f: floors.insert_many(f, 20_000),
        lambda f: case("publish_many", sqlite(f), 20_000),
        "target 0.1",
        rounds=rounds,
    )
    for concurrency, target in ((100, "target 0.12; CPU 1.2 s"), (10, "target 0.25")):
        _drain(concurrency, target, rounds)
    beside(
        "memory drain at 100",
        lambda _: floors.loop(30_000, 100),
        lambda _: case("drain", "memory://", 30_000, 100),
        "target 0.35",
        rounds=rounds,
    )


def _drain(concurrency: int, target: str, rounds: int) -> None:
    beside(
        f"sqlite drain at {concurrency}",
        lambda f: floors.drain(f, 20_000, concurrency),
        lambda f: case("drain", sqlite(f), 20_000, concurrency),
        target,
        rounds=rounds,
    )


def fairness(rounds: int) -> None:
    """Four worker processes on one file."""
    shares: list[float] = []
    waits: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            url = sqlite(Path(folder))
            case("publish_many", url, 60_000)
            command = [PYTHON, "-m", "tests.bench.cases", "worker", url, "5"]
            workers = [
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)
            ]
            figures = [json.loads(w.communicate()[0].splitlines()[-1]) for w in workers]
        jobs = [each["jobs"] for each in figures]
        shares.append(min(jobs) / (sum(jobs) / 4))
        waits.append(max(each["longest_wait_ms"] for each in figures))
    line("4 processes: smallest share of an even one", shares, "", "target 0.5")
    line("4 processes: longest wait for the lock", waits, "ms", "target 250")


def latencies(rounds: int) -> None:
    """From publish to handler start, across processes."""
    p50: list[float] = []
    p99: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            url = sqlite(Path(folder))
            command = [PYTHON, "-m", "tests.bench.cases", "latency", url, "200"]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
                assert worker.stdout is not None
                worker.stdout.readline()
                case("ping_for", url, 200)
                figures = json.loads(worker.stdout.readlines()[-1])
        p50.append(figures["p50_ms"])
        p99.append(figures["p99_ms"])
    line("sqlite publish to handler start, p50", p50, "ms", "target 5")
    line("sqlite publish to handler start, p99", p99, "ms", "")


def footprint(rounds: int) -> None:
    """Import, idleness, memory."""
    compiled = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    _import(compiled)
    imports = [_import(compiled) for _ in range(max(rounds, 5))]
    line("import brokerq", imports, "s", "target 0.25")
    with tempfile.TemporaryDirectory() as folder:
        figures = case("idle", sqlite(Path(folder)), 10)
    line("idle worker: CPU", [figures["cpu_percent"]], "%", "target 1")
    line("idle worker: memory", [figures["rss_mb"]], "MB", "target 60")
    with tempfile.TemporaryDirectory() as folder:
        figures = case("memory", sqlite(Path(folder)), 100_000)
    line("memory after 20,000 jobs", [figures["early_mb"]], "MB", "")
    line("memory after 100,000 jobs", [figures["late_mb"]], "MB", "target: flat")


def _import(environment: dict[str, str]) -> float:
    """Return how long a process takes longer that imports brokerq and does nothing."""
    times: list[float] = []
    for program in ("", "from brokerq import BrokerQ"):
        begin = time.perf_counter()
        subprocess.run([PYTHON, "-c", program], check=True, env=environment)
        times.append(time.perf_counter() - begin)
    return times[1] - times[0]


def main() -> None:
    """Run what was asked for."""
    parts = {
        "rates": rates,
        "fairness": fairness,
        "latency": latencies,
        "footprint": footprint,
        "rabbitmq": rabbitmq.measure,
        "postgres": postgres.measure,
        "sqs": sqs.measure,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help="default: all")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    for name in arguments.parts or parts:
        parts[name](arguments.rounds)


if __name__ == "__main__":
    main()
