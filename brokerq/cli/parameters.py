"""Values that the command line reads: durations, instants, sizes, rates, queue weights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from brokerq.duration import ZERO, to_timedelta
from brokerq.errors import ConfigurationError

_SIZES = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(|[kmg]i?)b?", re.IGNORECASE)
_RATE = re.compile(r"(\d+)/(s|m|h)")
_PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class DurationType(click.ParamType):
    """A duration such as 10m."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Read the text."""
        try:
            return to_timedelta(value)
        except ConfigurationError as exc:
            self.fail(str(exc), param, ctx)


class InstantType(click.ParamType):
    """A point in time in ISO 8601, with its zone: a bare one would mean another on each host."""

    name = "instant"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read the text."""
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not ISO 8601: write 2030-01-31T09:30:00Z", param, ctx)
        if instant.tzinfo is None:
            self.fail(f"{value!r} has no time zone: write {value}Z for UTC", param, ctx)
        return instant.astimezone(UTC)


class SizeType(click.ParamType):
    """A number of bytes such as 512MB or 512MiB."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Read the text."""
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(value.strip())
        size = int(float(found[1]) * _SIZES[found[2].lower()]) if found else 0
        if not size:
            self.fail(f"{value!r} is not a size: write 512MB or 2GiB", param, ctx)
        return size


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many per second."""

    per_second: float

    @property
    def batch(self) -> int:
        """How many to do at a time: about ten steps a second, so that the rate is even."""
        return max(1, int(self.per_second / 10))


class RateType(click.ParamType):
    """A rate such as 50/s."""

    name = "rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Rate:
        """Read the text."""
        if isinstance(value, Rate):
            return value
        found = _RATE.fullmatch(value.strip())
        if not found or not int(found[1]):
            self.fail(f"{value!r} is not a rate: write 50/s, 10/m or 100/h", param, ctx)
        return Rate(per_second=int(found[1]) / _PERIODS[found[2]])


DURATION = DurationType()
INSTANT = InstantType()
SIZE = SizeType()
RATE = RateType()


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


def positive(_ctx: click.Context, _param: click.Parameter, value: timedelta | None) -> Any:
    """Refuse a duration of zero."""
    if value == ZERO:
        raise click.BadParameter("must be longer than zero")
    return value
