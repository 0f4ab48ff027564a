"""Durations at the edges: `timedelta`, or text such as "10m"."""

from __future__ import annotations

import re
from datetime import timedelta

from brokerq.errors import ConfigurationError

Duration = timedelta | str
ZERO = timedelta(0)

_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "us": timedelta(microseconds=1),
}
_SIZES = {**_UNITS, "w": timedelta(weeks=1)}
_PART = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d|w)")
_TEXT = re.compile(rf"-?(?:{_PART.pattern})+")


def to_timedelta(value: Duration, *, what: str = "duration") -> timedelta:
    """Return the duration that `value` says.

    Text is numbers with units: "250ms", "30s", "1h30m", "1.5d"; the units are us, ms, s, m, h, d
    and w. Raises `ConfigurationError` that names `what` for anything else, a bare number and a
    negative duration included.
    """
    duration = value if isinstance(value, timedelta) else _read(str(value).strip(), what)
    if duration < ZERO:
        raise ConfigurationError(f"{what} must not be negative, got {value}")
    return duration


def _read(text: str, what: str) -> timedelta:
    try:
        if _TEXT.fullmatch(text):
            total = sum((float(n) * _SIZES[unit] for n, unit in _PART.findall(text)), ZERO)
            return -total if text.startswith("-") else total
    except OverflowError:  # longer than can be represented
        pass
    raise ConfigurationError(
        f'{what} {text!r} is not a duration: write a number and a unit, as in "250ms", '
        '"30s", "10m", "1h30m" or "4d"'
    )


def within(delay: timedelta, limit: timedelta | None) -> timedelta:
    """Return the delay, or the limit where it is longer; None: there is no limit."""
    return delay if limit is None else min(delay, limit)


def to_text(value: timedelta) -> str:
    """Return text that `to_timedelta` reads back as the same duration, such as "1h30m"."""
    parts: list[str] = []
    for unit, size in _UNITS.items():
        count, value = divmod(value, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
