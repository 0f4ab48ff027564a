"""What a consumer of an SQL adapter holds."""

from datetime import timedelta

import pytest

from brokerq.broker import Delivery, Lane
from brokerq.message import Message
from brokerq.sql.holds import Hold, Holds


def delivery(token: object) -> Delivery:
    return Delivery(
        message=Message(headers={}, body=b""),
        lane=Lane(queue="emails"),
        id=None,
        token=token,
        count=1,
        in_place=timedelta.max,
    )


@pytest.mark.parametrize(
    ("leases", "now", "room"),
    [
        ([], 0.0, 3),
        ([10.0], 9.9, 2),
        ([10.0], 10.0, 3),
        ([10.0, 30.0, 20.0], 9.9, 0),
        ([10.0, 30.0, 20.0], 20.0, 2),
        ([10.0, 30.0, 20.0, 20.0], 0.0, -1),
    ],
)
def test_there_is_room_for_what_is_not_held_or_has_lapsed(
    leases: list[float], now: float, room: int
) -> None:
    holds = Holds(3)
    for number, until in enumerate(leases):
        holds.add(number, None, until)
    assert holds.room(now) == room


@pytest.mark.parametrize(
    ("leases", "first"), [([], None), ([10.0], 10.0), ([30.0, 10.0, 20.0], 10.0)]
)
def test_the_first_lease_to_end_is_known(leases: list[float], first: float | None) -> None:
    holds = Holds(3)
    for number, until in enumerate(leases):
        holds.add(number, None, until)
    assert holds.first_end() == first


def test_a_hold_is_found_until_its_lease_ends_and_its_end_can_move() -> None:
    holds = Holds(1)
    hold = holds.add(7, "key", 10.0)
    assert holds.find(delivery(hold), 9.9) is hold
    assert holds.find(delivery(hold), 10.0) is None
    hold.until = 20.0
    assert holds.find(delivery(hold), 10.0) is hold


def test_a_hold_is_taken_once() -> None:
    holds = Holds(1)
    hold = holds.add(7, "key", 10.0)
    assert holds.take(delivery(hold), 0.0) is hold
    assert holds.take(delivery(hold), 0.0) is None
    assert holds.find(delivery(hold), 0.0) is None
    assert holds.room(0.0) == 1


def test_a_lapsed_hold_cannot_be_taken() -> None:
    holds = Holds(1)
    hold = holds.add(7, "key", 10.0)
    assert holds.take(delivery(hold), 10.0) is None


@pytest.mark.parametrize("token", [object(), 7, Hold(7, "key", 10.0)])
def test_only_the_very_token_is_a_hold(token: object) -> None:
    """Another consumer may have held the same row."""
    holds = Holds(1)
    holds.add(7, "key", 10.0)
    assert holds.take(delivery(token), 0.0) is None


def test_a_message_that_came_again_is_held_by_its_last_delivery_only() -> None:
    holds = Holds(2)
    first, second = holds.add(7, None, 10.0), holds.add(7, None, 20.0)
    assert holds.find(delivery(first), 0.0) is None
    assert holds.find(delivery(second), 0.0) is second
    assert holds.room(0.0) == 1


def test_everything_is_let_go_at_once() -> None:
    holds = Holds(3)
    held = [holds.add(number, None, 10.0) for number in (7, 5, 6)]
    assert holds.take_all() == [7, 5, 6]
    assert holds.take_all() == []
    assert [holds.find(delivery(hold), 0.0) for hold in held] == [None] * 3
