"""From what is recorded to what becomes of the delivery."""

from datetime import UTC, datetime, timedelta

import pytest

from brokerq.broker import Ack, Dead, Release, Reschedule, Verdict
from brokerq.message import Message
from brokerq.records import (
    ENDED,
    Busy,
    ClaimAnswer,
    Claimed,
    Duplicate,
    Recorded,
    Stale,
    State,
)
from brokerq.settlement import needs_copy, next_copy, settle_finished, settle_unclaimed
from brokerq.wire import read_head

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ZERO, SECOND, MINUTE = timedelta(0), timedelta(seconds=1), timedelta(minutes=1)
MESSAGE = Message(
    headers={
        "bq-v": "1",
        "bq-id": "j",
        "bq-job": "work",
        "bq-first-at": NOW.isoformat(),
        "bq-not-before": NOW.isoformat(),
        "bq-attempt": "1",
        "bq-crashes": "1",
        "mine": "kept",
    },
    body=b'{"a": 1}',
)
COPY = Message(headers={"bq-epoch": "1"}, body=b"{}")
LETTER = Message(headers={"bq-dead-reason": "exhausted"}, body=b"{}")


def recorded(
    state: State, *, wait: timedelta = ZERO, letter: dict[str, str] | None = None
) -> Recorded:
    return Recorded(
        state=state,
        epoch=3,
        attempts=2,
        crashes=0,
        redrives=0,
        first_at=NOW,
        wait=wait,
        letter=letter,
    )


@pytest.mark.parametrize(
    ("state", "copy", "letter", "verdict"),
    [
        (State.SUCCEEDED, None, None, Ack()),
        (State.SKIPPED, None, None, Ack()),
        (State.CANCELLED, COPY, None, Ack()),
        (State.DEAD, None, LETTER, Dead(message=LETTER)),
        (State.EXPIRED, None, LETTER, Dead(message=LETTER)),
        (State.DEAD, None, None, Dead(message=MESSAGE)),
        (State.RETRYING, COPY, None, Reschedule(delay=SECOND, message=COPY)),
        (State.RETRYING, None, None, Reschedule(delay=SECOND)),
        (State.SCHEDULED, None, None, Release(delay=SECOND)),
        (State.QUEUED, None, None, Release(delay=SECOND)),
        (State.WAITING, None, None, Release(delay=SECOND)),
    ],
)
def test_a_run_that_was_recorded_settles_its_delivery(
    state: State, copy: Message | None, letter: Message | None, verdict: Verdict
) -> None:
    assert settle_finished(state, MESSAGE, delay=SECOND, copy=copy, letter=letter) == verdict


@pytest.mark.parametrize("state", sorted(ENDED - {State.DEAD, State.EXPIRED}))
def test_a_redelivery_of_what_ended_well_is_acknowledged(state: State) -> None:
    assert settle_unclaimed(recorded(state), MESSAGE, deliveries=2) == Ack()


@pytest.mark.parametrize("answer", [Duplicate(of="other"), Stale()])
def test_what_another_message_answers_for_is_acknowledged(answer: ClaimAnswer) -> None:
    assert settle_unclaimed(answer, MESSAGE, deliveries=1) == Ack()


def test_a_recorded_retry_is_carried_out_again_for_what_remains_of_its_delay() -> None:
    verdict = settle_unclaimed(recorded(State.RETRYING, wait=SECOND), MESSAGE, deliveries=1)
    copy = next_copy(MESSAGE, epoch=3, attempts=2, crashes=0)
    assert verdict == Reschedule(delay=SECOND, message=copy)


def test_a_recorded_retry_that_is_overdue_has_no_delay() -> None:
    verdict = settle_unclaimed(recorded(State.RETRYING, wait=-SECOND), MESSAGE, deliveries=1)
    assert isinstance(verdict, Reschedule)
    assert verdict.delay == ZERO


@pytest.mark.parametrize("state", [State.DEAD, State.EXPIRED])
def test_a_recorded_death_sends_the_same_letter_again(state: State) -> None:
    letter = {"bq-id": "j", "bq-dead-reason": "exhausted"}
    verdict = settle_unclaimed(recorded(state, letter=letter), MESSAGE, deliveries=1)
    assert verdict == Dead(message=Message(headers=letter, body=MESSAGE.body))


def test_a_recorded_death_without_a_letter_sends_the_message_itself() -> None:
    assert settle_unclaimed(recorded(State.DEAD), MESSAGE, deliveries=1) == Dead(message=MESSAGE)


@pytest.mark.parametrize(
    ("wait", "deliveries", "delay"),
    [
        (ZERO, None, timedelta(milliseconds=100)),
        (ZERO, 0, timedelta(milliseconds=100)),
        (ZERO, 1, timedelta(milliseconds=100)),
        (ZERO, 2, timedelta(milliseconds=200)),
        (ZERO, 5, timedelta(milliseconds=1_600)),
        (ZERO, 11, MINUTE),
        (ZERO, 10**9, MINUTE),
        (SECOND, 1, SECOND),
        (10 * MINUTE, 30, 10 * MINUTE),
    ],
)
def test_a_busy_job_is_given_back_longer_each_time_and_never_for_less_than_its_lease(
    wait: timedelta, deliveries: int | None, delay: timedelta
) -> None:
    verdict = settle_unclaimed(Busy(wait=wait), MESSAGE, deliveries=deliveries)
    assert verdict == Release(delay=delay)


def test_a_claimed_delivery_cannot_be_settled_before_it_ran() -> None:
    answer = Claimed(
        fence=1, epoch=0, attempts=0, crashes=0, first_at=NOW, expires_at=None, redrives=0
    )
    with pytest.raises(TypeError):
        settle_unclaimed(answer, MESSAGE, deliveries=1)


@pytest.mark.parametrize("state", sorted(set(State) - {State.RETRYING}))
@pytest.mark.parametrize("counts_in_message", [True, False])
def test_only_a_retry_is_ever_a_copy(state: State, *, counts_in_message: bool) -> None:
    assert not needs_copy(state, MINUTE, in_place=ZERO, counts_in_message=counts_in_message)


@pytest.mark.parametrize(
    ("delay", "in_place", "counts_in_message", "copy"),
    [
        (SECOND, ZERO, False, True),
        (SECOND, SECOND, False, False),
        (MINUTE, SECOND, False, True),
        (ZERO, ZERO, False, False),
        (SECOND, MINUTE, True, True),
        (ZERO, MINUTE, True, True),
    ],
)
def test_a_retry_is_a_copy_where_the_message_cannot_wait_or_must_change(
    delay: timedelta, in_place: timedelta, *, counts_in_message: bool, copy: bool
) -> None:
    needed = needs_copy(
        State.RETRYING, delay, in_place=in_place, counts_in_message=counts_in_message
    )
    assert needed is copy


@pytest.mark.parametrize("counts_in_message", [True, False])
def test_where_a_copy_would_lose_its_place_there_is_none(*, counts_in_message: bool) -> None:
    assert not needs_copy(
        State.RETRYING,
        MINUTE,
        in_place=SECOND,
        counts_in_message=counts_in_message,
        may_copy=False,
    )


def test_a_copy_is_the_same_message_but_for_its_counts_and_its_first_delay() -> None:
    copy = next_copy(MESSAGE, epoch=2, attempts=2, crashes=0)
    head = read_head(copy)
    assert (head.epoch, head.attempts, head.crashes, head.not_before) == (2, 2, 0, None)
    changed = {"bq-epoch", "bq-attempt", "bq-crashes", "bq-not-before"}
    kept = {name: text for name, text in MESSAGE.headers.items() if name not in changed}
    assert {n: t for n, t in copy.headers.items() if n not in changed} == kept
    assert copy.body == MESSAGE.body
