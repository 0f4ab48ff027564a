"""Values that the command line reads: durations, instants, sizes, rates, queue weights.

Functions that click takes as types; their names are what its help shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click

from brokerq.duration import to_timedelta
from brokerq.errors import ConfigurationError

_SIZES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|[kmg]i?)b?", re.IGNORECASE)
_RATE = re.compile(r"(\d+)/(s|m|h)")
_PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many per second."""

    per_second: float

    @property
    def batch(self) -> int:
        """How many to do at a time: about ten steps a second, so that the rate is even."""
        return max(1, int(self.per_second / 10))


def duration(text: str) -> timedelta:
    """Read a duration such as 10m."""
    try:
        return to_timedelta(text)
    except ConfigurationError as exc:
        raise click.BadParameter(str(exc)) from exc


def instant(text: str) -> datetime:
    """Read ISO 8601 with a zone: a bare time would mean another one on each host."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is not ISO 8601: write 2030-01-31T09:30:00Z") from exc
    if found.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone: write {text}Z for UTC")
    return found.astimezone(UTC)


def size(text: str) -> int:
    """Read a number of bytes such as 512MB or 2GiB."""
    found = _SIZE.fullmatch(text.strip())
    count = int(float(found[1]) * _SIZES[found[2].lower()]) if found else 0
    if not count:
        raise click.BadParameter(f"{text!r} is not a size: write 512MB or 2GiB")
    return count


def rate(text: str) -> Rate:
    """Read a rate such as 50/s."""
    found = _RATE.fullmatch(text.strip())
    if not found or not int(found[1]):
        raise click.BadParameter(f"{text!r} is not a rate: write 50/s, 10/m or 100/h")
    return Rate(per_second=int(found[1]) / _PERIODS[found[2]])


def read_weights(texts: Iterable[str]) -> dict[str, int] | None:
    """Return the queues and weights of `a:3,b`, in order; None where nothing was given."""
    weights: dict[str, int] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        name, colon, weight = part.partition(":")
        if not name or name in weights or (colon and not (weight.isdecimal() and int(weight))):
            raise click.BadParameter(
                f"{part!r} is not understood: write each queue once, with a weight of at least 1, "
                "as in payments:3,emails",
                param_hint="'-Q' / '--queues'",
            )
        weights[name] = int(weight) if colon else 1
    return weights or None
