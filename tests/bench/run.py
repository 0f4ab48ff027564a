"""Measures brokerq beside the raw clients and prints ratios with their spread: `make bench`.

Every figure comes from a fresh process and file; floor and brokerq take turns, so that both see the
same machine. The targets are what the project wants on two quiet cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench import floors

ROUNDS = 5
PYTHON = sys.executable


def case(name: str, url: str, *numbers: int) -> dict[str, float]:
    """Run one case in a process of its own."""
    command = [PYTHON, "-m", "tests.bench.cases", name, url, *map(str, numbers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def line(name: str, values: Sequence[float], unit: str, target: str) -> None:
    """Print a figure with its spread."""
    middle, low, high = statistics.median(values), min(values), max(values)
    print(f"{name:<44} {middle:>10.3g} {unit:<6} [{low:.3g} .. {high:.3g}]  {target}", flush=True)


def beside(
    name: str,
    floor: Callable[[Path], float],
    ours: Callable[[Path], dict[str, float]],
    target: str,
    *,
    rounds: int,
) -> None:
    """Measure floor and brokerq in turns; print both rates and their ratio."""
    raw: list[float] = []
    rates: list[float] = []
    ratios: list[float] = []
    cpu: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            raw.append(floor(Path(one)))
            figures = ours(Path(other))
        rates.append(figures["rate"])
        ratios.append(figures["rate"] / raw[-1])
        cpu.append(figures.get("cpu_per_10k", 0.0))
    line(f"{name}: raw", raw, "/s", "")
    line(f"{name}: brokerq", rates, "/s", "")
    line(f"{name}: ratio", ratios, "", target)
    if any(cpu):
        line(f"{name}: worker CPU per 10,000 jobs", cpu, "s", "")


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
    parts = {"rates": rates, "fairness": fairness, "latency": latencies, "footprint": footprint}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *parts], help="default: all")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    for name in arguments.parts or parts:
        parts[name](arguments.rounds)


if __name__ == "__main__":
    main()
