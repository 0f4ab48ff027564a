"""What one publish may ask for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from brokerq.errors import ConfigurationError
from brokerq.options import PublishOptions, publish_options

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_durations_may_be_text() -> None:
    options = publish_options(delay="10m", deadline="1h")
    assert options.delay == timedelta(minutes=10)
    assert options.deadline == HOUR


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"delay": "1s", "at": NOW}, "delay= or at=, not both"),
        ({"delay": "soon"}, "delay 'soon' is not a duration"),
        ({"delay": "-1s"}, "delay must not be negative"),
        ({"deadline": "-1s"}, "deadline must not be negative"),
        ({"at": datetime(2026, 1, 1)}, "at 2026-01-01T00:00:00 has no time zone"),  # noqa: DTZ001
        ({"deadline": datetime(2026, 1, 1)}, "deadline .* has no time zone"),  # noqa: DTZ001
        ({"at": datetime.max.replace(tzinfo=timezone(-HOUR))}, "at .* is out of range"),
        ({"priority": ""}, "priority must not be empty"),
        ({"key": ""}, "key must not be empty"),
        ({"key": "k" * 256}, "key has 256 characters"),
        ({"tags": "vip"}, r"write \['vip'\]"),
        ({"headers": {"bq-id": "1"}}, "header 'bq-id' cannot be set"),
        ({"headers": {"X-Trace": "1"}}, "header 'X-Trace' cannot be set"),
        ({"headers": {"": "1"}}, "header '' cannot be set"),
        ({"max_attempts": 0}, "max_attempts must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        publish_options(**given)


def test_instants_are_kept_in_utc() -> None:
    local = datetime(2026, 1, 1, 14, tzinfo=timezone(2 * HOUR))
    options = publish_options(at=local, deadline=local)
    assert options.at == NOW
    assert options.at is not None
    assert options.at.tzinfo is UTC
    assert options.expires_at(NOW) == NOW


@pytest.mark.parametrize(
    ("options", "due"),
    [
        (PublishOptions(), None),
        (PublishOptions(delay=timedelta()), None),
        (PublishOptions(delay=HOUR), NOW + HOUR),
        (PublishOptions(at=NOW + HOUR), NOW + HOUR),
        (PublishOptions(at=NOW), None),
        (PublishOptions(at=NOW - HOUR), None),
    ],
)
def test_a_job_is_due_later_or_at_once(options: PublishOptions, due: datetime | None) -> None:
    assert options.not_before(NOW) == due


def test_a_deadline_counts_from_the_publish_or_is_an_instant() -> None:
    assert PublishOptions().expires_at(NOW) is None
    assert PublishOptions(deadline=HOUR).expires_at(NOW) == NOW + HOUR
    assert PublishOptions(deadline=NOW + HOUR).expires_at(NOW) == NOW + HOUR


@pytest.mark.parametrize("name", ["delay", "deadline"])
def test_a_duration_beyond_the_calendar_is_refused(name: str) -> None:
    options = PublishOptions(**{name: timedelta.max})  # type: ignore[arg-type]  # both are durations
    with pytest.raises(ConfigurationError, match=f"{name} .* beyond the year 9999"):
        (options.not_before if name == "delay" else options.expires_at)(NOW)


def test_newer_options_go_over_older_ones() -> None:
    older = publish_options(delay="1m", tags=["a"], headers={"a": "1"})
    newer = publish_options(delay="2m", priority="high")
    assert older.over(newer) == publish_options(
        delay="2m", priority="high", tags=["a"], headers={"a": "1"}
    )
    with pytest.raises(ConfigurationError, match="not both"):
        older.over(publish_options(at=NOW))
