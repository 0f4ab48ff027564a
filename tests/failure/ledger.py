"""What really happened, written down by the handlers themselves, whatever brokerq may believe.

An append-only file of JSON lines that knows no uniqueness: what happened twice stands there twice.
Each line is one write that is on the disk before the handler goes on, so a killed process has
written a line wholly or not at all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from brokerq import Context

Kind = Literal["begin", "effect", "end", "attempted", "confirmed", "refused", "unknown", "report"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line.

    Attributes:
        job_id: Empty where none is known yet: a publish that was begun.
        key: The handler's `ctx.effect_key`.
        attempt: As the handler was told, from 1.
        at: Seconds on the clock that all processes of this host share and nobody can set.
        wall: Seconds since 1970.
        more: Whatever else the writer knows.
    """

    kind: Kind
    job_id: str = ""
    job: str = ""
    key: str = ""
    attempt: int = 0
    fence: int = 0
    crashes: int = 0
    redrives: int = 0
    pid: int = 0
    at: float = 0.0
    wall: float = 0.0
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(slots=True)
class Known:
    """What was read of a file before: nothing that stands there ever changes."""

    size: int = 0
    entries: list[Entry] = field(default_factory=list[Entry])


FILES = 20
"""So many are kept in mind."""
_read: dict[Path, Known] = {}


class Ledger:
    """Appends to the file; one per process."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, kind: Kind, *, ctx: Context | None = None, **more: Any) -> None:
        """Append a line, about the job of `ctx` where there is one, and wait for the disk."""
        known: dict[str, Any] = {}
        if ctx is not None:
            known = {
                "job_id": ctx.id,
                "job": ctx.job,
                "key": ctx.effect_key,
                "attempt": ctx.attempt,
                "fence": ctx.fence,
                "crashes": ctx.crashes,
                "redrives": ctx.redrives,
            }
        entry = Entry(
            kind=kind, pid=os.getpid(), at=time.monotonic(), wall=time.time(), more=more, **known
        )
        os.write(self._file, json.dumps(asdict(entry)).encode() + b"\n")
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: str | Path) -> list[Entry]:
    """Return the entries in the order in which they were written.

    Whoever reads while another writes may see the beginning of a line: it is not there yet.
    """
    file = Path(path)
    if not file.exists():
        return []
    known = _read.setdefault(file, Known())
    with file.open("rb") as ledger:
        ledger.seek(known.size)
        whole, end, _ = ledger.read().rpartition(b"\n")
    known.entries += [Entry(**json.loads(line)) for line in whole.splitlines()]
    known.size += len(whole) + len(end)
    if len(_read) > FILES:
        del _read[next(iter(_read))]
    return list(known.entries)


def of(entries: list[Entry], kind: Kind, job_id: str | None = None) -> list[Entry]:
    """Return the entries of one kind, and of one job unless it is None."""
    return [e for e in entries if e.kind == kind and job_id in {None, e.job_id}]
