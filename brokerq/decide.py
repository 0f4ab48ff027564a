"""What a run comes to: from its outcome to what is recorded. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random

from brokerq.duration import ZERO, to_timedelta
from brokerq.outcome import (
    Cancelled,
    Failed,
    Interrupted,
    Outcome,
    RetryAfter,
    Snooze,
    Succeeded,
    Unrunnable,
    text_of,
)
from brokerq.records import Claimed, State
from brokerq.retry import RetryPolicy, is_exhausted, meaning, next_delay

LONGEST_DELAY = timedelta(days=36_500)
"""A handler or a policy may ask for more, which no clock can add to the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be recorded.

    Attributes:
        attempt: Whether an attempt is counted.
        delay: Before the job may run again; only for a state that is no end.
        reason: Of the dead letter, where the state is `dead` or `expired`.
        note: Why, in one sentence; None where the state says it all.
    """

    state: State
    attempt: bool = False
    delay: timedelta = ZERO
    reason: str | None = None
    note: str | None = None


SUCCESS = Decision(state=State.SUCCEEDED, attempt=True)
"""What is decided of every run that has succeeded."""


def precheck(claimed: Claimed, policy: RetryPolicy, *, now: datetime) -> Unrunnable | None:
    """Return why a claimed job must not be run, or None."""
    if claimed.conflict is not None:
        return Unrunnable(
            reason="key_conflict",
            detail=f"its idempotency key is held with another payload by job {claimed.conflict}",
        )
    if claimed.crashes >= policy.max_crashes:
        return Unrunnable(
            reason="crash_loop", detail=f"{claimed.crashes} workers were lost while running it"
        )
    if claimed.expires_at is not None and claimed.expires_at <= now:
        return Unrunnable(
            reason="expired", detail=f"its deadline was {claimed.expires_at.isoformat()}"
        )
    if now - claimed.first_at >= policy.age_limit:  # a sum could be beyond the year 9999
        return Unrunnable(reason="expired", detail=f"it is older than {policy.age_limit} (max_age)")
    return None


def decide(
    outcome: Outcome, claimed: Claimed, policy: RetryPolicy, *, now: datetime, random: Random
) -> Decision:
    """Return what is to be recorded of a run."""
    match outcome:
        case Succeeded():
            return SUCCESS
        case Interrupted():
            return Decision(state=State.QUEUED)
        case Cancelled():
            return Decision(state=State.CANCELLED)
        case Unrunnable():
            return _unrunnable(outcome)
        case Failed(error=error):
            try:
                decision = _failed(error, claimed, policy, now=now, random=random)
                return replace(decision, delay=min(decision.delay, LONGEST_DELAY))
            except Exception as exc:  # noqa: BLE001 - a user's wait or stop object may raise
                note = f"its retry policy failed: {exc!r}"
                return Decision(state=State.DEAD, attempt=True, reason="exhausted", note=note)


def _unrunnable(outcome: Unrunnable) -> Decision:
    if outcome.wait:
        return Decision(state=State.SCHEDULED, delay=outcome.wait, note=outcome.detail)
    state = State.EXPIRED if outcome.reason == "expired" else State.DEAD
    return Decision(state=state, reason=outcome.reason, note=outcome.detail)


def _failed(  # noqa: PLR0911 - one return per rule
    error: BaseException, claimed: Claimed, policy: RetryPolicy, *, now: datetime, random: Random
) -> Decision:
    verdict = meaning(policy, error)
    if verdict == "drop":
        return Decision(state=State.SKIPPED, note=text_of(error))
    if verdict == "reject":
        return Decision(state=State.DEAD, attempt=True, reason="rejected", note=text_of(error))
    age = max(ZERO, now - claimed.first_at)
    too_old = age >= policy.age_limit or (
        claimed.expires_at is not None and claimed.expires_at <= now
    )
    if isinstance(verdict, Snooze):
        if too_old:
            return Decision(state=State.EXPIRED, reason="expired", note="snoozed until too old")
        return Decision(state=State.SCHEDULED, delay=verdict.delay, note=verdict.reason)
    attempts = claimed.attempts + 1
    if is_exhausted(policy, attempts=attempts, age=age, error=error):
        note = f"attempt {attempts} failed and was the last"
        return Decision(state=State.DEAD, attempt=True, reason="exhausted", note=note)
    if too_old:
        note = "failed when it was too old"
        return Decision(state=State.EXPIRED, attempt=True, reason="expired", note=note)
    if isinstance(verdict, RetryAfter):
        delay = min(verdict.delay, to_timedelta(policy.max_delay))
    else:
        delay = next_delay(policy, attempts=attempts, age=age, error=error, random=random)
    return Decision(state=State.RETRYING, attempt=True, delay=delay)
