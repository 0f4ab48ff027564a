"""Durations at the edges."""

from datetime import timedelta

import pytest

from brokerq.duration import to_text, to_timedelta
from brokerq.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta()),
        ("250ms", timedelta(milliseconds=250)),
        ("1us", timedelta(microseconds=1)),
        ("30s", timedelta(seconds=30)),
        (" 10m ", timedelta(minutes=10)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5d", timedelta(hours=36)),
        ("2w", timedelta(weeks=2)),
        ("1d2h3m4.5s", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
    ],
)
def test_text_is_read(text: str, duration: timedelta) -> None:
    assert to_timedelta(text) == duration


def test_a_timedelta_is_taken_as_it_is() -> None:
    assert to_timedelta(timedelta(seconds=1.5)) == timedelta(seconds=1.5)


@pytest.mark.parametrize(
    "text",
    [
        *["", " ", "0", "10", "1.5", "m", "10 m", "1 m 5 s", "ten minutes", "1x", "PT1M", "nan"],
        *[
            "1h-30m",
            "1h, 30m",
            "1e3s",
            "1..5s",
            "1mo",
            "5mm",
            "1y",
            "9" * 20 + "d",
            "9" * 400 + "d",
        ],
    ],
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r'^delay .* is not a duration: .*"10m"'):
        to_timedelta(text, what="delay")


@pytest.mark.parametrize("value", ["-1s", timedelta(seconds=-1), timedelta.min])
def test_a_negative_duration_is_refused(value: str | timedelta) -> None:
    with pytest.raises(ConfigurationError, match="timeout must not be negative"):
        to_timedelta(value, what="timeout")


@pytest.mark.parametrize(
    "duration",
    [
        timedelta(),
        timedelta(microseconds=1),
        timedelta(milliseconds=1, microseconds=1),
        timedelta(seconds=1.5),
        timedelta(minutes=1, microseconds=1),
        timedelta(seconds=59, microseconds=123456),
        timedelta(minutes=90),
        timedelta(days=4),
        timedelta(days=3650, microseconds=7),
        timedelta(days=400, hours=3, microseconds=7),
    ],
    ids=str,
)
def test_what_is_written_is_read_back(duration: timedelta) -> None:
    assert to_timedelta(to_text(duration)) == duration


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(days=30), "30d"),
        (timedelta(milliseconds=1500), "1s500ms"),
    ],
)
def test_text_is_as_a_person_would_write_it(duration: timedelta, text: str) -> None:
    assert to_text(duration) == text
