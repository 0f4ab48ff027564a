"""Whose turn it is: by weight, smoothly, or strictly in order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerq.broker import Lane, QueueSpec
from brokerq.engine.shares import Shares, lane_weights

A, B, C = Lane(queue="a"), Lane(queue="b"), Lane(queue="c")
PLENTY = 10_000


def test_each_level_has_twice_the_weight_of_the_next() -> None:
    mixed = QueueSpec(name="mixed", levels=("high", "normal", "low"))
    assert lane_weights([(mixed, 3), (QueueSpec(name="plain"), 1)]) == {
        Lane(queue="mixed", level="high"): 12,
        Lane(queue="mixed", level="normal"): 6,
        Lane(queue="mixed", level="low"): 3,
        Lane(queue="plain"): 1,
    }


def test_turns_are_spread_evenly() -> None:
    shares = Shares({A: 3, B: 1}, strict=False)
    turns = [next(iter(shares.pick({A: PLENTY, B: PLENTY}, 1))) for _ in range(8)]
    assert turns == [A, A, B, A, A, A, B, A]


def test_turns_go_on_over_several_calls() -> None:
    shares = Shares({A: 3, B: 1}, strict=False)
    picked: Counter[Lane] = Counter()
    for slots in (1, 2, 3, 5, 9):
        picked.update(shares.pick({A: PLENTY, B: PLENTY}, slots))
    assert picked == {A: 15, B: 5}


def test_what_a_lane_does_not_use_falls_to_the_others() -> None:
    shares = Shares({A: 9, B: 1}, strict=False)
    assert shares.pick({A: 0, B: 5}, 3) == {B: 3}
    assert shares.pick({A: 1, B: 5}, 4) == {A: 1, B: 3}
    assert shares.pick({A: 0, B: 0}, 4) == {}


def test_a_lane_that_was_empty_does_not_take_it_all_when_it_comes_back() -> None:
    shares = Shares({A: 1, B: 1}, strict=False)
    shares.pick({A: PLENTY, B: 0}, 1000)
    picked = shares.pick({A: PLENTY, B: PLENTY}, 100)
    assert abs(picked[A] - picked[B]) <= 2


def test_so_many_may_be_picked_that_no_lane_stands_in_for_another() -> None:
    shares = Shares({A: 3, B: 1}, strict=False)
    assert shares.most_fair({A: 90, B: 30}) == 120
    assert shares.most_fair({A: 1, B: 60}) == 1
    assert shares.most_fair({A: 60, B: 1}) == 4
    assert shares.most_fair({A: 0, B: 60}) == 60
    assert shares.most_fair({A: 0, B: 0}) == 0
    for available in ({A: 45, B: 60}, {A: 7, B: 5}, {A: 12, B: 4}):
        most = shares.most_fair(available)
        picked = Shares({A: 3, B: 1}, strict=False).pick(available, most)
        assert picked.get(A, 0) == pytest.approx(most * 3 / 4, abs=1)


def test_strict_is_in_order() -> None:
    shares = Shares({A: 1, B: 9}, strict=True)
    assert shares.pick({A: 2, B: 5}, 3) == {A: 2, B: 1}


def test_a_share_is_a_part_of_the_whole() -> None:
    shares = Shares({A: 3, B: 1}, strict=False)
    assert (shares.share(A), shares.share(B)) == (0.75, 0.25)


def test_strict_lanes_may_hold_more_the_earlier_they_are() -> None:
    shares = Shares({A: 1, B: 9, C: 90}, strict=True)
    assert [shares.share(lane) for lane in (A, B, C)] == [1, 0.5, 0.25]


@given(
    weights=st.tuples(*[st.integers(1, 20)] * 3),
    available=st.tuples(*[st.integers(0, 30)] * 3),
    slots=st.integers(1, 60),
    strict=st.booleans(),
)
def test_all_slots_are_used_and_none_twice(
    weights: tuple[int, int, int],
    available: tuple[int, int, int],
    slots: int,
    *,
    strict: bool,
) -> None:
    shares = Shares(dict(zip((A, B, C), weights, strict=True)), strict=strict)
    there = dict(zip((A, B, C), available, strict=True))
    picked = shares.pick(there, slots)
    assert sum(picked.values()) == min(slots, sum(available))
    assert all(0 < count <= there[lane] for lane, count in picked.items())


@given(weights=st.tuples(*[st.integers(1, 20)] * 3))
def test_in_the_long_run_each_lane_gets_its_share(weights: tuple[int, int, int]) -> None:
    lanes = dict(zip((A, B, C), weights, strict=True))
    shares = Shares(lanes, strict=False)
    rounds = 10
    picked = shares.pick(dict.fromkeys(lanes, PLENTY), rounds * sum(weights))
    assert picked == {lane: rounds * weight for lane, weight in lanes.items()}
