"""What a handler may raise."""

from datetime import timedelta

import pytest

from brokerq.errors import ConfigurationError
from brokerq.outcome import Drop, Reject, RetryAfter, Snooze


@pytest.mark.parametrize("verdict", [Reject("no use"), Drop("no use")])
def test_a_verdict_says_why(verdict: Reject | Drop) -> None:
    assert verdict.reason == "no use"
    assert str(verdict) == "no use"


@pytest.mark.parametrize("kind", [RetryAfter, Snooze])
def test_a_delay_may_be_text_or_a_timedelta(kind: type[RetryAfter | Snooze]) -> None:
    assert kind("1m30s").delay == timedelta(seconds=90)
    assert kind(timedelta(seconds=5), "rate limit").reason == "rate limit"


@pytest.mark.parametrize("kind", [RetryAfter, Snooze])
@pytest.mark.parametrize("delay", ["soon", "30", "-1s", timedelta(seconds=-1)])
def test_a_delay_that_is_none_is_refused(
    kind: type[RetryAfter | Snooze], delay: str | timedelta
) -> None:
    with pytest.raises(ConfigurationError):
        kind(delay)
