"""Runs cases in processes of their own and prints what they measured, floors beside brokerq."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from tests.bench.meter import Figures

PYTHON = sys.executable
SHOWN = {
    "cpu_per_10k": ("client CPU per 10,000", "s"),
    "server_cpu_per_10k": ("broker CPU per 10,000", "s"),
    "calls_per_job": ("API calls per job", ""),
}


def case(
    name: str,
    url: str,
    *numbers: int | str,
    module: str = "cases",
    environment: Mapping[str, str] | None = None,
) -> Figures:
    """Run one case in a process of its own."""
    command = [PYTHON, "-m", f"tests.bench.{module}", name, url, *map(str, numbers)]
    more = {**os.environ, **(environment or {})}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=more)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def line(name: str, values: Sequence[float], unit: str, target: str) -> None:
    """Print a figure with its spread."""
    middle, low, high = statistics.median(values), min(values), max(values)
    print(f"{name:<44} {middle:>10.3g} {unit:<6} [{low:.3g} .. {high:.3g}]  {target}", flush=True)


def in_turns(
    name: str,
    floor: Callable[[], Figures],
    ours: Callable[[], Figures],
    target: str,
    *,
    rounds: int,
    cpu_target: str | None = None,
) -> None:
    """Measure floor and brokerq in turns; print both, and the ratio of their rates.

    `cpu_target`: print the ratio of the clients' CPU, too.
    """
    pairs = [(floor(), ours()) for _ in range(rounds)]
    line(f"{name}: raw", [raw["rate"] for raw, _ in pairs], "/s", "")
    line(f"{name}: brokerq", [our["rate"] for _, our in pairs], "/s", "")
    line(f"{name}: ratio", [our["rate"] / raw["rate"] for raw, our in pairs], "", target)
    for key, (what, unit) in SHOWN.items():
        for whose, found in (("raw", [p[0] for p in pairs]), ("brokerq", [p[1] for p in pairs])):
            values = [each[key] for each in found if key in each]
            if values:
                line(f"{name}: {whose}, {what}", values, unit, "")
    if cpu_target is not None:
        ratios = [our["cpu_per_10k"] / raw["cpu_per_10k"] for raw, our in pairs]
        line(f"{name}: ratio of CPU", ratios, "", cpu_target)
