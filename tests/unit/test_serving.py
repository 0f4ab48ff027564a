"""How the time of a host that calls is divided."""

from __future__ import annotations

from datetime import timedelta

import pytest

from brokerq.serving import RESERVE, Time, divide


@pytest.mark.parametrize(
    ("left", "work", "reserve"), [(900, 895, 5), (20, 15, 5), (3, 2.25, 0.75), (0, 0, 0)]
)
def test_a_part_is_kept_to_give_back_the_rest(left: float, work: float, reserve: float) -> None:
    assert divide(timedelta(seconds=left)) == Time(
        work=timedelta(seconds=work), reserve=timedelta(seconds=reserve)
    )


def test_who_waits_for_ever_sets_no_limit() -> None:
    assert divide(None) == Time(work=None, reserve=RESERVE)
