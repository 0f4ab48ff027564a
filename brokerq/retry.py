"""When an attempt that failed is made again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Literal

from brokerq import defaults
from brokerq.duration import ZERO, Duration, to_timedelta
from brokerq.errors import ConfigurationError
from brokerq.outcome import Drop, Reject, RetryAfter, Snooze

if TYPE_CHECKING:
    from tenacity.stop import StopBaseT
    from tenacity.wait import WaitBaseT

Backoff = Literal["fixed", "linear", "exponential", "list"]
Jitter = Literal["full", "equal", "none"]

ErrorVerdict = Literal["retry", "reject", "drop"] | RetryAfter | Snooze
"""What an error means: `retry` by the policy, `reject`, `drop`, or after a delay."""

ErrorMap = Mapping[type[BaseException], ErrorVerdict | Callable[[BaseException], ErrorVerdict]]
"""What errors mean, by class; the most derived class named decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, and when, a job is tried; checked when it is made.

    Attributes:
        max_attempts: At most so many attempts fail; the last one ends the job as `exhausted`.
        backoff: The n-th delay: `fixed` initial, `linear` n x initial, `exponential`
            initial x factor^(n-1), `list` the n-th of `delays` (the last one goes on).
        max_delay: No delay is longer, before jitter; `RetryAfter` is cut to it too.
        jitter: `full`: anything from zero to the delay; `equal`: from half of it; `none`.
        max_crashes: So many lost workers end the job as `crash_loop`; no attempt is counted.
        max_age: The job expires this long after it was first published, whatever happened.
        on: What classes of errors mean, before the policy is asked.
        wait: A tenacity wait object: replaces `backoff` and `jitter`.
        stop: A tenacity stop object: replaces `max_attempts`.
    """

    max_attempts: int = defaults.MAX_ATTEMPTS
    backoff: Backoff = defaults.BACKOFF
    initial: Duration = defaults.INITIAL_DELAY
    max_delay: Duration = defaults.MAX_DELAY
    factor: float = defaults.FACTOR
    jitter: Jitter = defaults.JITTER
    delays: Sequence[Duration] = ()
    max_crashes: int = defaults.MAX_CRASHES
    max_age: Duration = defaults.MAX_AGE
    on: ErrorMap = field(default_factory=dict[type[BaseException], ErrorVerdict])
    wait: WaitBaseT | None = None
    stop: StopBaseT | None = None
    age_limit: timedelta = field(init=False, repr=False, compare=False)
    """`max_age` as a `timedelta`."""

    def __post_init__(self) -> None:
        for name in ("initial", "max_delay", "max_age"):
            duration = to_timedelta(getattr(self, name), what=f"RetryPolicy.{name}")
            object.__setattr__(self, name, duration)
        object.__setattr__(self, "age_limit", self.max_age)
        delays = tuple(to_timedelta(delay, what="RetryPolicy.delays") for delay in self.delays)
        object.__setattr__(self, "delays", delays)
        for name in ("max_attempts", "max_crashes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"RetryPolicy.{name} must be at least 1")
        if self.backoff not in {"fixed", "linear", "exponential", "list"}:
            raise ConfigurationError(
                f"RetryPolicy.backoff is fixed, linear, exponential or list, not {self.backoff!r}"
            )
        if self.jitter not in {"full", "equal", "none"}:
            raise ConfigurationError(
                f"RetryPolicy.jitter is full, equal or none, not {self.jitter!r}"
            )
        if (self.backoff == "list") != bool(self.delays):
            raise ConfigurationError('RetryPolicy(backoff="list") and delays=[...] go together')
        if self.factor < 1:
            raise ConfigurationError("RetryPolicy.factor must be at least 1")


def delay_before(policy: RetryPolicy, *, attempts: int, random: Random) -> timedelta:
    """Return how long to wait after `attempts` (at least 1) failed attempts."""
    limit = to_timedelta(policy.max_delay)
    delay = min(limit, _nominal(policy, attempts, limit))
    if policy.jitter == "full":
        return delay * random.random()
    if policy.jitter == "equal":
        return delay / 2 + delay / 2 * random.random()
    return delay


def _nominal(policy: RetryPolicy, attempts: int, limit: timedelta) -> timedelta:
    initial = to_timedelta(policy.initial)
    try:
        match policy.backoff:
            case "fixed":
                return initial
            case "linear":
                return initial * attempts
            case "list":
                return to_timedelta(policy.delays[min(attempts, len(policy.delays)) - 1])
            case "exponential":
                return initial * policy.factor ** (attempts - 1)
    except OverflowError:
        return limit if initial else ZERO


def is_exhausted(
    policy: RetryPolicy, *, attempts: int, age: timedelta, error: BaseException
) -> bool:
    """Tell whether `attempts` failures, the last with `error`, were all that is allowed."""
    if policy.stop is None:
        return attempts >= policy.max_attempts
    return bool(policy.stop(_tenacity_state(attempts, age, error)))


def next_delay(
    policy: RetryPolicy, *, attempts: int, age: timedelta, error: BaseException, random: Random
) -> timedelta:
    """Return the delay before the next attempt, by tenacity's wait object if there is one."""
    if policy.wait is None:
        return delay_before(policy, attempts=attempts, random=random)
    limit = to_timedelta(policy.max_delay)
    seconds = policy.wait(_tenacity_state(attempts, age, error))
    return timedelta(seconds=min(max(0.0, seconds), limit.total_seconds()))


def _tenacity_state(attempts: int, age: timedelta, error: BaseException) -> RetryCallState:
    import tenacity  # noqa: PLC0415 - only for those who use it: it costs start-up time

    state = tenacity.RetryCallState(tenacity.Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = attempts
    state.outcome_timestamp = state.start_time + age.total_seconds()
    outcome = tenacity.Future(attempts)
    outcome.set_exception(error)
    state.outcome = outcome
    return state


def meaning(policy: RetryPolicy, error: BaseException) -> ErrorVerdict:
    """Return what an error means: what the handler said itself, else the map's most derived class.

    A mapping function that raises is a failure of its own and means `retry`.
    """
    if isinstance(error, Reject):
        return "reject"
    if isinstance(error, Drop):
        return "drop"
    if isinstance(error, RetryAfter | Snooze):
        return error
    for cls in type(error).__mro__:
        verdict = policy.on.get(cls)
        if verdict is not None:
            return _ask(verdict, error) if callable(verdict) else verdict
    return "retry"


def _ask(verdict: Callable[[BaseException], ErrorVerdict], error: BaseException) -> ErrorVerdict:
    try:
        return verdict(error)
    except Exception as exc:  # noqa: BLE001 - noted with the error it was asked about
        error.add_note(f"and the function in RetryPolicy.on failed: {exc!r}")
        return "retry"


if TYPE_CHECKING:
    from tenacity import RetryCallState
