"""Which verdict is which call of SQS."""

from __future__ import annotations

from datetime import timedelta

import pytest
from brokerq_sqs.settling import IN_PLACE, Crowd, Hold, Rules, Step

from brokerq.broker import Ack, Dead, Delivery, Lane, Release, Reschedule, Verdict
from brokerq.message import Message

HOUR = 3_600.0
HALF = timedelta(seconds=30)
STANDARD = Rules(ordered=False, max_receives=25)
ORDERED = Rules(ordered=True, max_receives=1_000)
MESSAGE = Message(headers={"bq-id": "j"}, body=b"{}")
COPY = Message(headers={"bq-id": "j", "bq-epoch": "1"}, body=b"{}")


def step(
    rules: Rules,
    verdict: Verdict,
    *,
    receives: int = 1,
    held: float = 1.0,
    crowded: bool = False,
) -> Step | None:
    hold = Hold("handle", since=0.0, until=held + 1, receives=receives, group="g")
    delivery = Delivery(
        message=MESSAGE, lane=Lane(queue="q"), id="j", token=hold, count=receives, in_place=IN_PLACE
    )
    return rules.step(delivery, hold, verdict, now=held, crowded=crowded)


def visibility(rules: Rules, delay: timedelta, *, held: float = 1.0) -> int | None:
    found = step(rules, Release(delay=delay), held=held)
    assert found is not None
    assert found.send is None
    return found.visibility


def sent(found: Step | None) -> tuple[str | None, int, str | None, str | None, bool]:
    """Return headers, delay, group, deduplication and whether it goes to the dead letters."""
    assert found is not None
    assert found.send is not None
    assert found.visibility is None
    packed, delay, group, deduplication = found.send
    text = packed.attributes["brokerq"].get("StringValue")
    return str(text), delay, group, deduplication, found.to_dead


def test_what_is_done_with_is_deleted() -> None:
    assert step(STANDARD, Ack()) == Step()


@pytest.mark.parametrize("rules", [STANDARD, ORDERED])
def test_what_comes_back_itself_changes_its_visibility(rules: Rules) -> None:
    assert step(rules, Release()) == Step(visibility=0)
    assert step(rules, Reschedule(delay=timedelta(seconds=1.5))) == Step(visibility=2)
    assert visibility(rules, timedelta(hours=3)) == 3 * HOUR


def test_nothing_is_hidden_for_longer_than_twelve_hours_in_all() -> None:
    assert visibility(STANDARD, timedelta(days=3)) == 12 * HOUR - 60 - 1
    assert visibility(STANDARD, timedelta(days=3), held=2 * HOUR) == 10 * HOUR - 60
    assert visibility(ORDERED, timedelta(hours=1), held=11.9 * HOUR) == pytest.approx(300)


def test_what_was_held_for_too_long_comes_back_as_a_copy() -> None:
    found = step(STANDARD, Release(delay=timedelta(days=1)), held=11.9 * HOUR)
    assert sent(found) == ('{"bq-id":"j"}', 900, "g", None, False)


@pytest.mark.parametrize(("receives", "copied"), [(15, False), (16, True), (25, True)])
def test_near_the_native_limit_a_copy_begins_anew(receives: int, *, copied: bool) -> None:
    found = step(STANDARD, Release(), receives=receives)
    assert found is not None
    assert (found.send is not None) is copied


def test_near_a_small_limit_too_and_without_one_never() -> None:
    assert step(Rules(ordered=False, max_receives=3), Release(), receives=2) == Step(visibility=0)
    sent(step(Rules(ordered=False, max_receives=3), Release(), receives=3))
    unlimited = Rules(ordered=False, max_receives=None)
    assert step(unlimited, Release(), receives=9_999) == Step(visibility=0)
    assert step(ORDERED, Release(), receives=999) == Step(visibility=0)


def test_a_copy_is_sent_with_its_delay_at_most_that_of_sqs() -> None:
    soon = step(STANDARD, Reschedule(delay=timedelta(seconds=0.2), message=COPY))
    assert sent(soon) == ('{"bq-id":"j","bq-epoch":"1"}', 1, "g", None, False)
    later = step(STANDARD, Reschedule(delay=timedelta(days=1), message=COPY))
    assert sent(later)[1] == 900


def test_an_ordered_queue_takes_no_copy() -> None:
    assert step(ORDERED, Reschedule(delay=timedelta(0), message=COPY)) is None


def test_a_dead_letter_goes_to_its_queue() -> None:
    assert sent(step(STANDARD, Dead(message=COPY)))[1:] == (0, "g", None, True)
    assert sent(step(ORDERED, Dead(message=COPY)))[1:] == (0, "g", "j.1.dead", True)


@pytest.mark.parametrize("verdict", [Release(delay=timedelta(hours=1)), Reschedule(delay=HALF)])
def test_where_very_many_wait_in_place_a_copy_waits_instead(verdict: Verdict) -> None:
    found = step(STANDARD, verdict, crowded=True)
    assert sent(found) == (
        '{"bq-id":"j"}',
        900 if isinstance(verdict, Release) else 30,
        "g",
        None,
        False,
    )
    unsent = step(ORDERED, verdict, crowded=True)
    assert unsent is not None
    assert unsent.visibility
    assert step(STANDARD, Release(), crowded=True) == Step(visibility=0)
    assert step(STANDARD, Ack(), crowded=True) == Step()


def test_what_is_due_waits_no_longer() -> None:
    crowd = Crowd(most=2)
    for due in (30.0, 10.0):
        assert not crowd.is_full(1.0)
        crowd.add(due)
    assert crowd.is_full(9.9)
    assert not crowd.is_full(10.0)
    crowd.add(40.0)
    assert crowd.is_full(29.9)
    assert not crowd.is_full(40.0)
