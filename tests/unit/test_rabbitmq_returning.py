"""What was looked at goes back in its order, and what is to be removed does not."""

from __future__ import annotations

from brokerq_rabbitmq.returning import TOGETHER, Steps
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.sampled_from(["keep", "remove", "cut"]), max_size=200))
def test_every_message_goes_where_it_was_meant_to(wanted: list[str]) -> None:
    steps = Steps()
    kept: list[int] = []
    removed: list[int] = []
    tag = 0
    for what in wanted:
        if what == "cut":
            steps.cut()
            continue
        tag += 1
        steps.keep(tag)
        if what == "remove":
            steps.remove_last()
        (kept if what == "keep" else removed).append(tag)
    held = list(range(1, tag + 1))
    given_back: list[int] = []
    for step in steps:
        run = [each for each in held if each <= step.tag]
        held = [each for each in held if each > step.tag]
        assert step.tag in run
        assert len(run) == step.size
        if step.keep:
            assert len(run) <= TOGETHER
            given_back += run
        else:
            removed = [each for each in removed if each not in run]
    assert given_back == kept
    assert removed == []
    assert held == []


def test_what_was_removed_cannot_be_removed_again() -> None:
    steps = Steps()
    steps.keep(1)
    steps.remove_last()
    steps.remove_last()
    assert [(step.tag, step.keep, step.size) for step in steps] == [(1, False, 1)]
