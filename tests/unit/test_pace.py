"""How fast jobs are being completed."""

from __future__ import annotations

import pytest

from brokerq.engine.pace import Pace


def test_nothing_yet() -> None:
    assert Pace(100.0).per_second(100.0) == 0
    assert Pace(100.0).per_second(200.0) == 0


def test_a_steady_rate_is_found() -> None:
    pace = Pace(0.0)
    for tick in range(1, 500):
        pace.add(5, tick / 100)
    assert pace.per_second(5.0) == pytest.approx(500, rel=0.01)


def test_a_single_batch_counts_at_once() -> None:
    pace = Pace(0.0)
    pace.add(10, 0.1)
    assert pace.per_second(0.1) == pytest.approx(100)


def test_many_small_batches_are_one_sample() -> None:
    pace = Pace(0.0)
    for tick in range(1, 21):
        pace.add(1, tick / 1000)
    assert pace.per_second(0.02) == pytest.approx(1000)


def test_the_rate_follows_a_change_within_seconds() -> None:
    pace = Pace(0.0)
    for tick in range(1, 101):
        pace.add(10, tick / 100)
    for tick in range(1, 501):
        pace.add(1, 1 + tick / 100)
    assert 95 < pace.per_second(6.0) < 120


def test_a_limit_takes_away_what_was_before() -> None:
    pace = Pace(0.0)
    pace.add(100, 1.0)
    pace.limit(10)
    assert pace.per_second(1.0) == pytest.approx(10)
    pace.limit(20)
    assert pace.per_second(1.0) == pytest.approx(10)


def test_after_a_stop_the_rate_is_that_since_the_last_completion() -> None:
    pace = Pace(0.0)
    pace.add(100, 1.0)
    pace.limit(0)
    assert pace.per_second(1.0) == 0
    pace.add(1, 11.0)
    assert pace.per_second(11.0) == pytest.approx(0.1)


def test_it_falls_to_zero_when_nothing_happens() -> None:
    pace = Pace(0.0)
    pace.add(100, 0.1)
    assert pace.per_second(0.5) == pytest.approx(1000)
    assert 0 < pace.per_second(3.0) < 200
    assert pace.per_second(60.0) < 0.001
