"""What one worker process was asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from brokerq.cli.logs import Level, LogFormat
from brokerq.duration import to_text


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlan:
    """The options of `brokerq worker`, but for the number of processes.

    Attributes:
        reference: The app, as MODULE:BQ.
        queues: Names and weights; None: every declared queue alike.
        concurrency: None: as the environment says.
        max_memory: Bytes.
        level: None: as the environment says.
        supervisor: A file descriptor that ends when the supervisor does; None: there is none.
    """

    reference: str
    queues: Mapping[str, int] | None
    concurrency: int | None
    burst: bool
    strict: bool
    max_jobs: int | None
    max_memory: int | None
    grace: timedelta
    log_format: LogFormat
    level: Level | None
    supervisor: int | None = None

    def arguments(self, *, supervisor: int) -> list[str]:
        """Return the arguments that start such a worker under a supervisor."""
        options: list[tuple[str, object]] = [
            ("--concurrency", self.concurrency),
            ("--max-jobs", self.max_jobs),
            ("--max-memory", self.max_memory),
            ("--grace", to_text(self.grace)),
            ("--log-format", self.log_format),
            ("--log-level", self.level),
            ("--supervisor", supervisor),
        ]
        if self.queues is not None:
            weights = ",".join(f"{name}:{weight}" for name, weight in self.queues.items())
            options.append(("--queues", weights))
        flags = [("--burst", self.burst), ("--strict", self.strict)]
        return [
            "worker",
            self.reference,
            *(f"{name}={value}" for name, value in options if value is not None),
            *(name for name, given in flags if given),
        ]
