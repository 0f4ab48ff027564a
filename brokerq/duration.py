"""Durations at the edges: `timedelta`, or text such as "10m"."""

from __future__ import annotations

from datetime import timedelta

import durationpy

from brokerq.errors import ConfigurationError

Duration = timedelta | str
ZERO = timedelta(0)


def to_timedelta(value: Duration, *, what: str = "duration") -> timedelta:
    """Return the duration that `value` says.

    Text is numbers with units: "250ms", "30s", "1h30m", "1.5d"; the units are us, ms, s, m, h, d, w
    (also mo, y: 30 and 365 days). Raises `ConfigurationError` that names `what` for anything else,
    a bare number and a negative duration included.
    """
    if isinstance(value, timedelta):
        duration = value
    else:
        try:
            duration = durationpy.from_str(value.strip())
        except (durationpy.DurationError, OverflowError):
            raise ConfigurationError(
                f'{what} {value!r} is not a duration: write a number and a unit, as in "250ms", '
                '"30s", "10m", "1h30m" or "4d"'
            ) from None
    if duration < ZERO:
        raise ConfigurationError(f"{what} must not be negative, got {value}")
    return duration


def to_text(value: timedelta) -> str:
    """Return text that `to_timedelta` reads back as the same duration, such as "1h30m"."""
    return durationpy.to_str(value, extended=True)
