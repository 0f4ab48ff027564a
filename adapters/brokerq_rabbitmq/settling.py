"""Which acknowledgements say what was settled, in as few frames as can be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Acks(NamedTuple):
    """Acknowledgements to send.

    Attributes:
        up_to: This tag and all before it; None: none.
        singles: Tags that lie behind something that is not settled.
    """

    up_to: int | None
    singles: Sequence[int]


def plan_acks(done: Sequence[int], first_held: int | None) -> Acks:
    """Return how to acknowledge the tags in `done`.

    `first_held`: the lowest tag that is neither in `done` nor settled before, given back included.
    """
    if first_held is None:
        return Acks(up_to=max(done, default=None), singles=())
    before = [tag for tag in done if tag < first_held]
    singles = sorted(tag for tag in done if tag > first_held)
    return Acks(up_to=max(before, default=None), singles=singles)
