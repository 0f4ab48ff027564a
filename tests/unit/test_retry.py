"""When an attempt that failed is made again."""

from datetime import timedelta
from random import Random
from typing import Any

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from brokerq.errors import ConfigurationError
from brokerq.outcome import Drop, Reject, RetryAfter, Snooze
from brokerq.retry import (
    Backoff,
    ErrorVerdict,
    Jitter,
    RetryPolicy,
    delay_before,
    is_exhausted,
    meaning,
    next_delay,
)

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def delays(policy: RetryPolicy, count: int) -> list[float]:
    random = Random(1)
    return [
        delay_before(policy, attempts=n, random=random).total_seconds() for n in range(1, count + 1)
    ]


def plain(backoff: Backoff, **settings: Any) -> RetryPolicy:
    return RetryPolicy(backoff=backoff, jitter="none", **settings)


def test_fixed_delays_are_all_the_initial_one() -> None:
    assert delays(plain("fixed", initial="3s"), 4) == [3, 3, 3, 3]


def test_linear_delays_grow_by_the_initial_one_up_to_the_longest() -> None:
    assert delays(plain("linear", initial="2s", max_delay="5s"), 4) == [2, 4, 5, 5]


def test_exponential_delays_grow_by_the_factor_up_to_the_longest() -> None:
    assert delays(plain("exponential", initial="1s", factor=3, max_delay="20s"), 5) == [
        1,
        3,
        9,
        20,
        20,
    ]


def test_listed_delays_are_taken_in_order_and_the_last_goes_on() -> None:
    assert delays(plain("list", delays=["1s", "5s", "2s"]), 5) == [1, 5, 2, 2, 2]


def test_a_listed_delay_is_cut_to_the_longest_too() -> None:
    assert delays(plain("list", delays=["1s", "5s"], max_delay="3s"), 2) == [1, 3]


@pytest.mark.parametrize("attempts", [100, 5_000, 10**9])
def test_an_exponential_delay_that_overflows_is_the_longest(attempts: int) -> None:
    policy = plain("exponential", initial="1s", max_delay="10m")
    assert delay_before(policy, attempts=attempts, random=Random(1)) == timedelta(minutes=10)


def test_an_exponential_delay_that_begins_at_zero_stays_there() -> None:
    policy = plain("exponential", initial=timedelta(0))
    assert delay_before(policy, attempts=5_000, random=Random(1)) == timedelta(0)


def test_a_linear_delay_that_overflows_is_the_longest() -> None:
    policy = plain("linear", initial="1000000d", max_delay="10m")
    assert delay_before(policy, attempts=10**6, random=Random(1)) == timedelta(minutes=10)


@given(
    backoff=st.sampled_from(("fixed", "linear", "exponential")),
    jitter=st.sampled_from(("full", "equal", "none")),
    initial=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1)),
    max_delay=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30)),
    factor=st.floats(min_value=1, max_value=100),
    attempts=st.integers(min_value=1, max_value=10_000),
    seed=st.integers(),
)
def test_every_delay_is_within_its_jitter_of_the_nominal_one_and_never_above_the_longest(
    *,
    backoff: Backoff,
    jitter: Jitter,
    initial: timedelta,
    max_delay: timedelta,
    factor: float,
    attempts: int,
    seed: int,
) -> None:
    settings: dict[str, Any] = {"initial": initial, "max_delay": max_delay, "factor": factor}
    policy = RetryPolicy(backoff=backoff, jitter=jitter, **settings)
    nominal = delay_before(plain(backoff, **settings), attempts=attempts, random=Random(seed))
    delay = delay_before(policy, attempts=attempts, random=Random(seed))
    least = {"full": timedelta(0), "equal": nominal / 2, "none": nominal}[jitter]
    rounding = timedelta(microseconds=1)
    assert least - rounding <= delay <= nominal <= max_delay


@pytest.mark.parametrize(("jitter", "least"), [("full", 0.0), ("equal", 5.0)])
def test_jitter_uses_the_whole_of_its_range(jitter: Jitter, least: float) -> None:
    policy = RetryPolicy(backoff="fixed", initial="10s", jitter=jitter)
    random = Random(7)
    seen = [delay_before(policy, attempts=1, random=random).total_seconds() for _ in range(2_000)]
    width = 10.0 - least
    assert min(seen) < least + width / 50
    assert max(seen) > 10.0 - width / 50


def test_the_same_seed_gives_the_same_delays() -> None:
    assert delays(RetryPolicy(), 5) == delays(RetryPolicy(), 5)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"max_attempts": 0}, "max_attempts must be at least 1"),
        ({"max_crashes": 0}, "max_crashes must be at least 1"),
        ({"initial": "-1s"}, r"RetryPolicy.initial must not be negative"),
        ({"initial": "5"}, r"RetryPolicy.initial '5' is not a duration"),
        ({"max_delay": "soon"}, r"RetryPolicy.max_delay 'soon' is not a duration"),
        ({"max_age": timedelta(seconds=-1)}, "RetryPolicy.max_age must not be negative"),
        ({"backoff": "random"}, "not 'random'"),
        ({"jitter": "some"}, "not 'some'"),
        ({"backoff": "list"}, "go together"),
        ({"delays": ["1s"]}, "go together"),
        ({"backoff": "list", "delays": ["1s", "x"]}, "RetryPolicy.delays 'x' is not a duration"),
        ({"factor": 0.5}, "factor must be at least 1"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_name(
    settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        RetryPolicy(**settings)


def test_durations_may_be_given_as_text() -> None:
    policy = RetryPolicy(initial="250ms", max_delay="1h30m", max_age="7d")
    assert policy.initial == timedelta(milliseconds=250)
    assert policy.max_delay == timedelta(minutes=90)
    assert policy.age_limit == timedelta(days=7)


@pytest.mark.parametrize(("attempts", "exhausted"), [(1, False), (2, False), (3, True), (4, True)])
def test_the_last_attempt_of_the_budget_exhausts_it(attempts: int, *, exhausted: bool) -> None:
    policy = RetryPolicy(max_attempts=3)
    assert is_exhausted(policy, attempts=attempts, age=HOUR, error=ValueError()) is exhausted


def wait_after(wait: Any, attempts: int, *, error: Exception | None = None) -> timedelta:
    policy = RetryPolicy(wait=wait, max_delay="1m")
    return next_delay(
        policy, attempts=attempts, age=HOUR, error=error or ValueError(), random=Random(1)
    )


def test_a_tenacity_wait_replaces_the_backoff() -> None:
    assert wait_after(tenacity.wait_fixed(7), 1) == timedelta(seconds=7)
    exponential = tenacity.wait_exponential(multiplier=2)
    assert [wait_after(exponential, n).total_seconds() for n in (1, 2, 3)] == [2, 4, 8]


def test_tenacity_waits_may_be_combined() -> None:
    wait = tenacity.wait_fixed(3) + tenacity.wait_incrementing(start=1, increment=2)
    assert [wait_after(wait, n).total_seconds() for n in (1, 2)] == [4, 6]


def test_a_tenacity_wait_is_cut_to_the_longest_delay_and_never_negative() -> None:
    assert wait_after(tenacity.wait_fixed(3_600), 1) == timedelta(minutes=1)
    assert wait_after(tenacity.wait_fixed(-5), 1) == timedelta(0)


def test_a_tenacity_wait_that_overflows_is_the_longest_delay() -> None:
    assert wait_after(tenacity.wait_exponential(), 60) == timedelta(minutes=1)
    assert wait_after(tenacity.wait_fixed(float("inf")), 1) == timedelta(minutes=1)


def test_a_tenacity_wait_sees_the_error() -> None:
    wait = tenacity.wait_exception(lambda error: 9.0 if isinstance(error, KeyError) else 1.0)
    assert wait_after(wait, 1, error=KeyError("k")) == timedelta(seconds=9)
    assert wait_after(wait, 1) == SECOND


def stopped(stop: Any, attempts: int, age: timedelta) -> bool:
    policy = RetryPolicy(stop=stop, max_attempts=1)
    return is_exhausted(policy, attempts=attempts, age=age, error=ValueError())


def test_a_tenacity_stop_replaces_the_budget_of_attempts() -> None:
    stop = tenacity.stop_after_attempt(4)
    assert [stopped(stop, n, HOUR) for n in (1, 3, 4)] == [False, False, True]


def test_a_tenacity_stop_after_a_delay_sees_the_age_of_the_job() -> None:
    stop = tenacity.stop_after_delay(60)
    assert not stopped(stop, 100, timedelta(seconds=59))
    assert stopped(stop, 1, timedelta(seconds=61))


def test_tenacity_stops_may_be_combined() -> None:
    either = tenacity.stop_after_attempt(4) | tenacity.stop_after_delay(60)
    both = tenacity.stop_after_attempt(4) & tenacity.stop_after_delay(60)
    assert stopped(either, 1, HOUR)
    assert not stopped(both, 1, HOUR)
    assert stopped(both, 4, HOUR)


class _OurError(Exception):
    pass


class _NarrowError(_OurError):
    pass


class _NarrowerError(_NarrowError):
    pass


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (_OurError(), "reject"),
        (_NarrowError(), "drop"),
        (_NarrowerError(), "drop"),
        (ValueError(), "retry"),
        (TimeoutError(), "retry"),
        (KeyError(), "reject"),
    ],
)
def test_the_most_derived_class_that_is_named_decides(
    error: Exception, verdict: ErrorVerdict
) -> None:
    policy = RetryPolicy(on={_OurError: "reject", _NarrowError: "drop", LookupError: "reject"})
    assert meaning(policy, error) == verdict


def test_a_more_derived_class_may_be_retried_again() -> None:
    policy = RetryPolicy(on={_OurError: "reject", _NarrowError: "retry"})
    assert meaning(policy, _NarrowError()) == "retry"


def test_a_class_may_mean_a_delay() -> None:
    later, snooze = RetryAfter("9s"), Snooze("1m")
    policy = RetryPolicy(on={KeyError: later, ValueError: snooze})
    assert meaning(policy, KeyError()) is later
    assert meaning(policy, ValueError()) is snooze


def test_a_function_may_decide_by_the_error_itself() -> None:
    def by_code(error: BaseException) -> ErrorVerdict:
        return "reject" if error.args == (400,) else "retry"

    policy = RetryPolicy(on={_OurError: by_code})
    assert meaning(policy, _NarrowError(400)) == "reject"
    assert meaning(policy, _NarrowError(500)) == "retry"


def test_a_function_that_raises_means_retry() -> None:
    def broken(error: BaseException) -> ErrorVerdict:
        raise RuntimeError("the mapping has a bug") from error

    assert meaning(RetryPolicy(on={_OurError: broken}), _OurError()) == "retry"


def test_what_the_handler_says_itself_goes_before_the_map() -> None:
    policy = RetryPolicy(on={Exception: "drop"})
    later, snooze = RetryAfter("9s"), Snooze("1m")
    assert meaning(policy, Reject("no")) == "reject"
    assert meaning(policy, later) is later
    assert meaning(policy, snooze) is snooze
    assert meaning(RetryPolicy(on={Exception: "reject"}), Drop("no")) == "drop"
