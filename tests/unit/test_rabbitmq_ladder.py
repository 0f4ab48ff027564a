"""A delay is never shorter than asked for, and every key finds its way down to its lane."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from brokerq_rabbitmq import ladder
from hypothesis import given
from hypothesis import strategies as st

DELAYS = st.timedeltas(min_value=timedelta(microseconds=1), max_value=ladder.LONGEST)


def matches(pattern: str, key: str) -> bool:
    """Tell whether a topic exchange would take the key for the pattern."""
    words = [r"(?:[^.]+\.)*" if w == "#" else rf"{re.escape(w)}\." for w in pattern.split(".")]
    text = "".join(r"[^.]+\." if word == r"\*\." else word for word in words)
    return re.fullmatch(text, f"{key}.") is not None


def walk(count: int, queue: str, level: str) -> list[int]:
    """Return the rungs that a message passes on its way to the lane."""
    key = ladder.routing_key(count, queue, level)
    passed: list[int] = []
    for rung in range(ladder.entry_rung(count), -1, -1):
        taken, skipped = matches(ladder.takes(rung, queue), key), matches(ladder.skips(rung), key)
        assert taken != skipped
        if taken:
            passed.append(rung)
    assert matches(ladder.arrives(queue, level), key)
    assert matches(ladder.belongs(queue), key)
    return passed


@given(DELAYS)
def test_a_publish_waits_at_least_its_delay_and_less_than_a_tick_more(delay: timedelta) -> None:
    waited = ladder.ticks(delay) * ladder.TICK
    assert delay <= waited < delay + ladder.TICK


@given(DELAYS)
def test_a_retry_waits_at_least_its_delay_and_at_most_a_quarter_more(delay: timedelta) -> None:
    count = ladder.rough_ticks(delay)
    assert delay <= count * ladder.TICK < (delay + ladder.TICK) * 1.25
    assert count < ladder.LIMIT


@given(st.integers(min_value=1, max_value=2**16 - 1))
def test_few_rungs_are_enough_for_a_retry(count: int) -> None:
    rough = ladder.rough_ticks(count * ladder.TICK)
    assert rough.bit_count() <= 3 or rough > 2**16 - 2**13


@given(
    st.integers(min_value=1, max_value=2**ladder.RUNGS - 1),
    st.sampled_from(["mail", "a.b", "x-y_z", "1"]),
    st.sampled_from(["normal", "very.high"]),
)
def test_the_rungs_that_are_passed_add_up_to_the_delay(count: int, queue: str, level: str) -> None:
    rungs = walk(count, queue, level)
    assert sum((ladder.time_to_live(n) for n in rungs), timedelta(0)) == count * ladder.TICK
    assert rungs[0] == ladder.entry_rung(count)


@pytest.mark.parametrize("other", ["ma", "a.mail", "mail.a", "0"])
def test_a_message_finds_no_rung_of_another_queue(other: str) -> None:
    key = ladder.routing_key(5, "mail", "normal")
    assert not any(matches(ladder.takes(rung, other), key) for rung in range(ladder.RUNGS))
    assert not matches(ladder.arrives(other, "normal"), key)
    assert not matches(ladder.belongs(other), key)


def test_a_delay_beyond_all_rungs_is_all_of_them() -> None:
    assert ladder.rough_ticks(timedelta(days=30)) == ladder.LIMIT - 1
    assert ladder.ticks(ladder.LONGEST) < ladder.LIMIT
    assert ladder.rough_ticks(timedelta(0)) == 0
