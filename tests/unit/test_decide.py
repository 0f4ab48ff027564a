"""From the outcome of a run to what is recorded."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from brokerq.decide import Decision, decide, precheck
from brokerq.outcome import (
    Cancelled,
    Drop,
    Failed,
    Interrupted,
    Outcome,
    Reject,
    RetryAfter,
    Snooze,
    Succeeded,
    Unrunnable,
)
from brokerq.records import Claimed, State
from brokerq.retry import RetryPolicy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
POLICY = RetryPolicy(
    max_attempts=3,
    backoff="fixed",
    initial="10s",
    jitter="none",
    max_delay="1m",
    max_crashes=2,
    max_age="1h",
    on={KeyError: "reject", IndexError: "drop", OSError: RetryAfter("5s"), EOFError: Snooze("7s")},
)


def claimed(**settings: Any) -> Claimed:
    facts: dict[str, Any] = {
        "fence": 1,
        "epoch": 0,
        "attempts": 0,
        "crashes": 0,
        "first_at": NOW,
        "expires_at": None,
        "redrives": 0,
    }
    return Claimed(**{**facts, **settings})


def decided(outcome: Outcome, **settings: Any) -> Decision:
    return decide(outcome, claimed(**settings), POLICY, now=NOW, random=Random(1))


def retrying(seconds: float) -> Decision:
    return Decision(state=State.RETRYING, attempt=True, delay=timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("outcome", "decision"),
    [
        (Succeeded(), Decision(state=State.SUCCEEDED, attempt=True)),
        (Interrupted(), Decision(state=State.QUEUED)),
        (Cancelled(), Decision(state=State.CANCELLED)),
        (Failed(error=ValueError("x")), retrying(10)),
        (Failed(error=RetryAfter("20s")), retrying(20)),
        (Failed(error=RetryAfter("5m")), retrying(60)),
        (Failed(error=OSError("x")), retrying(5)),
        (
            Failed(error=Reject("no use")),
            Decision(state=State.DEAD, attempt=True, reason="rejected", note="no use"),
        ),
        (
            Failed(error=KeyError("k")),
            Decision(state=State.DEAD, attempt=True, reason="rejected", note="'k'"),
        ),
        (Failed(error=Drop("not needed")), Decision(state=State.SKIPPED, note="not needed")),
        (Failed(error=IndexError("i")), Decision(state=State.SKIPPED, note="i")),
        (
            Failed(error=Snooze("5m", "not open yet")),
            Decision(state=State.SCHEDULED, delay=timedelta(minutes=5), note="not open yet"),
        ),
        (
            Failed(error=EOFError()),
            Decision(state=State.SCHEDULED, delay=7 * SECOND, note="snoozed"),
        ),
        (
            Unrunnable(reason="invalid", detail="bad body"),
            Decision(state=State.DEAD, reason="invalid", note="bad body"),
        ),
        (
            Unrunnable(reason="crash_loop", detail="lost"),
            Decision(state=State.DEAD, reason="crash_loop", note="lost"),
        ),
        (
            Unrunnable(reason="expired", detail="late"),
            Decision(state=State.EXPIRED, reason="expired", note="late"),
        ),
        (
            Unrunnable(reason="unknown_job", detail="who", wait=SECOND),
            Decision(state=State.SCHEDULED, delay=SECOND, note="who"),
        ),
        (
            Unrunnable(reason="unknown_job", detail="who"),
            Decision(state=State.DEAD, reason="unknown_job", note="who"),
        ),
    ],
)
def test_a_first_attempt_comes_to(outcome: Outcome, decision: Decision) -> None:
    assert decided(outcome) == decision


@pytest.mark.parametrize("error", [ValueError("x"), RetryAfter("1s"), OSError("x")])
def test_the_last_attempt_is_the_end_whatever_delay_was_asked_for(error: Exception) -> None:
    assert decided(Failed(error=error), attempts=1).state == State.RETRYING
    last = decided(Failed(error=error), attempts=2)
    assert (last.state, last.attempt, last.reason) == (State.DEAD, True, "exhausted")


@pytest.mark.parametrize("outcome", [Failed(error=Snooze("1s")), Interrupted()])
def test_a_snooze_and_an_interruption_use_no_attempt(outcome: Outcome) -> None:
    decision = decided(outcome, attempts=2)
    assert not decision.attempt
    assert decision.state in {State.SCHEDULED, State.QUEUED}


TOO_OLD = (
    {"first_at": NOW - timedelta(hours=1)},
    {"expires_at": NOW},
    {"expires_at": NOW - SECOND},
)


@pytest.mark.parametrize("facts", TOO_OLD)
def test_a_job_that_is_too_old_expires_instead_of_being_tried_again(facts: dict[str, Any]) -> None:
    failed = decided(Failed(error=ValueError()), **facts)
    assert (failed.state, failed.attempt, failed.reason) == (State.EXPIRED, True, "expired")
    snoozed = decided(Failed(error=Snooze("1s")), **facts)
    assert (snoozed.state, snoozed.attempt, snoozed.reason) == (State.EXPIRED, False, "expired")


@pytest.mark.parametrize("facts", TOO_OLD)
def test_a_job_that_is_too_old_may_still_succeed_or_be_rejected(facts: dict[str, Any]) -> None:
    assert decided(Succeeded(), **facts).state == State.SUCCEEDED
    assert decided(Failed(error=Reject("no")), **facts).state == State.DEAD


def test_an_exhausted_job_dies_even_if_it_is_too_old() -> None:
    decision = decided(Failed(error=ValueError()), attempts=2, expires_at=NOW)
    assert (decision.state, decision.reason) == (State.DEAD, "exhausted")


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({}, None),
        ({"crashes": 1}, None),
        ({"crashes": 2}, "crash_loop"),
        ({"crashes": 3}, "crash_loop"),
        ({"attempts": 2}, None),
        ({"conflict": "j-1"}, "key_conflict"),
        ({"expires_at": NOW + SECOND}, None),
        ({"expires_at": NOW}, "expired"),
        ({"first_at": NOW - timedelta(minutes=59)}, None),
        ({"first_at": NOW - timedelta(hours=1)}, "expired"),
        ({"first_at": NOW + SECOND}, None),
        ({"conflict": "j-1", "crashes": 9, "expires_at": NOW}, "key_conflict"),
    ],
)
def test_a_claimed_job_is_run_unless(facts: dict[str, Any], reason: str | None) -> None:
    problem = precheck(claimed(**facts), POLICY, now=NOW)
    assert (problem and problem.reason) == reason


def test_a_conflict_names_the_job_that_holds_the_key() -> None:
    problem = precheck(claimed(conflict="j-1"), POLICY, now=NOW)
    assert problem is not None
    assert "j-1" in problem.detail
