"""Measures what a stretch of work takes: time, this process's CPU and the server's."""

from __future__ import annotations

import os
import time
from pathlib import Path

SERVER = "BENCH_SERVER_PID"
"""The environment variable with the process id of the server, whose CPU is measured too."""

Figures = dict[str, float]


class Meter:
    """Runs from its making on."""

    def __init__(self) -> None:
        pid = os.environ.get(SERVER)
        self._server = None if pid is None else Path(f"/proc/{pid}/stat")
        self._server_cpu = self._read()
        self._cpu = time.process_time()
        self._begin = time.perf_counter()

    def figures(self, count: int) -> Figures:
        """Return the rate of `count` jobs since then, and CPU seconds per 10,000 of them."""
        seconds = time.perf_counter() - self._begin
        cpu = time.process_time() - self._cpu
        figures = {"rate": count / seconds, "cpu_per_10k": cpu / count * 10_000}
        if self._server is not None:
            used = self._read() - self._server_cpu
            figures["server_cpu_per_10k"] = used / count * 10_000
        return figures

    def _read(self) -> float:
        """Return the CPU seconds that the server has used so far."""
        if self._server is None:
            return 0.0
        fields = self._server.read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
