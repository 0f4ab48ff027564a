"""How long what must wait waits: the whole time, in few steps."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerq.broker import Ack, Dead, Release, Reschedule, Verdict
from brokerq.engine.intake import (
    APART,
    LONGEST_APART,
    LONGEST_OUTAGE_PAUSE,
    LONGEST_UNKNOWN_PAUSE,
    OUTAGE_PAUSE,
    UNKNOWN_PAUSE,
)
from brokerq.message import Message
from brokerq.records import Busy
from brokerq.settlement import apart, in_reach, next_wait, settle_unclaimed

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ZERO, SECOND, MINUTE = timedelta(0), timedelta(seconds=1), timedelta(minutes=1)
MESSAGE = Message(
    headers={"bq-id": "j", "bq-job": "work", "bq-not-before": NOW.isoformat(), "bq-attempt": "1"},
    body=b'{"a": 1}',
)
COPY = Message(headers={"bq-epoch": "1"}, body=b"{}")
LETTER = Message(headers={"bq-dead-reason": "exhausted"}, body=b"{}")
DAY = timedelta(days=1)
DUE = (NOW + DAY).isoformat()


def headers_of(verdict: Verdict) -> dict[str, str]:
    assert isinstance(verdict, Reschedule)
    assert verdict.message is not None
    return dict(verdict.message.headers)


@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize(
    ("verdict", "in_place", "max_delay"),
    [
        (Ack(), ZERO, MINUTE),
        (Dead(message=LETTER), ZERO, MINUTE),
        (Release(), ZERO, ZERO),
        (Release(delay=MINUTE), ZERO, MINUTE),
        (Release(delay=DAY), DAY, MINUTE),
        (Release(delay=DAY), ZERO, DAY),
        (Release(delay=DAY), ZERO, None),
        (Reschedule(delay=DAY), DAY, MINUTE),
        (Reschedule(delay=DAY), DAY, ZERO),
        (Reschedule(delay=ZERO, message=COPY), ZERO, ZERO),
        (Reschedule(delay=DAY, message=COPY), ZERO, DAY),
        (Reschedule(delay=DAY, message=COPY), ZERO, None),
    ],
)
def test_a_verdict_that_the_broker_can_carry_out_stays(
    verdict: Verdict, in_place: timedelta, max_delay: timedelta | None, *, remembered: bool
) -> None:
    reached = in_reach(
        verdict,
        MESSAGE,
        remembered=remembered,
        in_place=in_place,
        max_delay=max_delay,
        now=NOW,
    )
    assert reached == verdict


@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize("in_place", [ZERO, MINUTE, DAY])
def test_a_copy_with_a_longer_delay_says_when_it_is_due_unless_its_record_does(
    in_place: timedelta, *, remembered: bool
) -> None:
    verdict = in_reach(
        Reschedule(delay=DAY, message=COPY),
        MESSAGE,
        remembered=remembered,
        in_place=in_place,
        max_delay=MINUTE,
        now=NOW,
    )
    assert isinstance(verdict, Reschedule)
    assert verdict.delay == MINUTE
    due = {} if remembered else {"bq-not-before": DUE}
    assert headers_of(verdict) == {**COPY.headers, **due}


@pytest.mark.parametrize(
    ("in_place", "max_delay", "step"),
    [(ZERO, MINUTE, MINUTE), (SECOND, MINUTE, MINUTE), (MINUTE, SECOND, MINUTE)],
)
def test_a_longer_release_that_is_remembered_goes_as_far_as_the_broker_can(
    in_place: timedelta, max_delay: timedelta, step: timedelta
) -> None:
    verdict = in_reach(
        Release(delay=DAY),
        MESSAGE,
        remembered=True,
        in_place=in_place,
        max_delay=max_delay,
        now=NOW,
    )
    assert verdict == Release(delay=step)


@pytest.mark.parametrize("max_delay", [ZERO, MINUTE, DAY, None])
def test_what_must_stay_the_same_message_waits_in_steps_too(max_delay: timedelta | None) -> None:
    verdict = in_reach(
        Reschedule(delay=DAY),
        MESSAGE,
        remembered=True,
        in_place=SECOND,
        max_delay=max_delay,
        now=NOW,
    )
    assert verdict == Reschedule(delay=SECOND)


def test_a_longer_release_that_nobody_remembers_is_the_same_message_with_its_due_time() -> None:
    verdict = in_reach(
        Release(delay=DAY), MESSAGE, remembered=False, in_place=SECOND, max_delay=MINUTE, now=NOW
    )
    assert isinstance(verdict, Reschedule)
    assert verdict.delay == MINUTE
    assert headers_of(verdict) == {**MESSAGE.headers, "bq-not-before": DUE}
    assert verdict.message is not None
    assert verdict.message.body == MESSAGE.body


@given(
    delay=st.timedeltas(min_value=ZERO, max_value=30 * DAY),
    in_place=st.timedeltas(min_value=ZERO, max_value=2 * DAY),
    max_delay=st.timedeltas(min_value=15 * MINUTE, max_value=DAY),
    copy=st.booleans(),
    remembered=st.booleans(),
)
def test_a_long_wait_is_whole_and_takes_few_steps(
    delay: timedelta,
    in_place: timedelta,
    max_delay: timedelta,
    *,
    copy: bool,
    remembered: bool,
) -> None:
    """Played through as the engine does it: by the header, or by a record that knows the due."""
    now, message, steps = NOW, MESSAGE, 0
    verdict: Verdict = Reschedule(delay=delay, message=COPY) if copy else Release(delay=delay)
    while True:
        verdict = in_reach(
            verdict,
            message,
            remembered=remembered or steps > 0,
            in_place=in_place,
            max_delay=max_delay,
            now=now,
        )
        steps += 1
        assert isinstance(verdict, Reschedule | Release)
        assert verdict.delay <= (
            max_delay if isinstance(verdict, Reschedule) else max(max_delay, in_place)
        )
        if isinstance(verdict, Reschedule):
            assert verdict.message is not None
            message = verdict.message
        now += verdict.delay
        header = message.headers.get("bq-not-before") if message is not MESSAGE else None
        due = datetime.fromisoformat(header) if header else NOW + delay
        if not remembered and steps > 1:
            assert header is not None
        if due <= now:
            break
        verdict = Release(delay=due - now)
    assert now == NOW + delay
    assert steps <= delay // max_delay + 2


def looks(ends: timedelta, wait: Callable[[timedelta, int], timedelta]) -> int:
    """Return how often a message is looked at until then, `wait` saying when the next time is."""
    waited, count = ZERO, 1
    while waited < ends:
        waited += min(wait(waited, count), ends - waited)
        count += 1
    return count


def unknown(waited: timedelta, _count: int) -> timedelta:
    """No worker knows the job."""
    return next_wait(waited, first=UNKNOWN_PAUSE, longest=LONGEST_UNKNOWN_PAUSE)


def outage(waited: timedelta, _count: int) -> timedelta:
    """The store is away."""
    return next_wait(waited, first=OUTAGE_PAUSE, longest=LONGEST_OUTAGE_PAUSE)


def suspect(_waited: timedelta, count: int) -> timedelta:
    """The job may take down its worker, and so may another one that runs."""
    return apart(1, count - 1, step=APART, longest=LONGEST_APART)


def busy(waited: timedelta, count: int | None) -> timedelta:
    """The job runs elsewhere, its lease of 30 s renewed each 10 s."""
    left = 30 * SECOND - waited % (10 * SECOND)
    verdict = settle_unclaimed(Busy(wait=left), MESSAGE, deliveries=count)
    assert isinstance(verdict, Release)
    return verdict.delay


def busy_uncounted(waited: timedelta, _count: int) -> timedelta:
    """The same with a broker that does not count."""
    return busy(waited, None)


@pytest.mark.parametrize(
    ("wait", "most"),
    [(unknown, 10), (outage, 20), (suspect, 20), (busy, 25), (busy_uncounted, 35)],
)
def test_in_ten_minutes_a_message_is_given_back_a_few_times(
    wait: Callable[[timedelta, int], timedelta], most: int
) -> None:
    """Some brokers count that, and give up on what is given back too often."""
    assert looks(10 * MINUTE, wait) <= most


@given(
    jobs=st.integers(2, 5),
    step=st.sampled_from([APART / 10, APART]),
    grain=st.sampled_from([APART / 10, APART / 2, APART]),
)
def test_what_comes_up_together_is_parted_soon_however_coarse_the_delays_are(
    jobs: int, step: timedelta, grain: timedelta
) -> None:
    """Delays are rounded up to whole grains, so that what waits about as long comes together."""
    due = dict.fromkeys(range(jobs), ZERO)
    times = dict.fromkeys(due, 0)
    now = ZERO
    while due:
        now = min(due.values())
        together = [job for job, at in due.items() if at == now]
        if len(together) == 1:
            del due[together[0]]
            continue
        for place, job in enumerate(together):
            wait = apart(place, times[job], step=step, longest=LONGEST_APART)
            due[job] = now + -(-wait // grain) * grain
            times[job] += place > 0
    assert now <= jobs * 10 * SECOND
