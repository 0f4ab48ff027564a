"""What goes wrong with which row. Pure: the same rows and seed fail in the same way everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from itertools import islice
from random import Random

from brokerq.duration import ZERO

RETRY_AFTER = timedelta(seconds=1)
"""HTTP says it in whole seconds."""
TIMEOUT = timedelta(milliseconds=1200)
"""Of the handler; what is late answers after `LATE`."""
LATE = timedelta(milliseconds=1800)


class Fault(Enum):
    """How the service treats a row until it is repaired; all but one are cured by that."""

    BUSY_ONCE = "the first call is answered 503 with Retry-After"
    LATE_ONCE = "the first call takes effect, and its answer comes too late"
    BUSY = "every call is answered 503 with Retry-After"
    LATE = "every call takes effect, and its answer comes too late"
    REFUSED = "every call is answered 400"
    INVALID = "every call is answered 400, after the repair too"


SHARES: Mapping[Fault, float] = {
    Fault.BUSY_ONCE: 0.08,
    Fault.LATE_ONCE: 0.02,
    Fault.BUSY: 0.01,
    Fault.LATE: 0.004,
    Fault.REFUSED: 0.01,
    Fault.INVALID: 0.006,
}


def plan(rows: int, seed: int) -> dict[int, Fault]:
    """Return the fault of each row that has one, by its number from 1; one of each kind at least.

    Where there are fewer rows than kinds of faults, the last kinds do not happen.
    """
    numbers = iter(_random(seed, "plan").sample(range(1, rows + 1), rows))
    return {
        row: fault
        for fault, share in SHARES.items()
        for row in islice(numbers, max(1, round(rows * share)))
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What the service does with a call.

    Attributes:
        effect: Whether the call does what it asks for.
        wait: Before the answer is sent.
    """

    status: int
    effect: bool
    wait: timedelta = ZERO


def react(fault: Fault | None, *, call: int, repaired: bool) -> Reaction:
    """Return what the `call`-th call (from 1) about a row with that fault meets."""
    match fault:
        case Fault.INVALID:
            return Reaction(status=400, effect=False)
        case Fault.REFUSED if not repaired:
            return Reaction(status=400, effect=False)
        case Fault.BUSY | Fault.BUSY_ONCE if _happens(fault, call, repaired=repaired):
            return Reaction(status=503, effect=False)
        case Fault.LATE | Fault.LATE_ONCE if _happens(fault, call, repaired=repaired):
            return Reaction(status=201, effect=True, wait=LATE)
        case _:
            return Reaction(status=201, effect=True)


def _happens(fault: Fault, call: int, *, repaired: bool) -> bool:
    return call == 1 if fault in {Fault.BUSY_ONCE, Fault.LATE_ONCE} else not repaired


def usual_wait(seed: int, *, row: int, call: int) -> timedelta:
    """Return how long the service thinks about a call."""
    return timedelta(milliseconds=_random(seed, f"wait {row} {call}").uniform(40, 160))


def _random(seed: int, purpose: str) -> Random:
    return Random(f"{seed} {purpose}")  # noqa: S311 - repeatable on purpose
