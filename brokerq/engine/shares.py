"""Which lane's turn it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from brokerq.broker import Lane, QueueSpec


def lane_weights(
    queues: Sequence[tuple[QueueSpec, int]],
) -> dict[Lane, int]:
    """Return the lanes of the queues with their shares, in order of urgency.

    Within a queue each level gets twice the share of the next less urgent one.
    """
    weights: dict[Lane, int] = {}
    for spec, weight in queues:
        for place, level in enumerate(spec.levels):
            urgency = 2 ** (len(spec.levels) - 1 - place)
            weights[Lane(queue=spec.name, level=level)] = weight * urgency
    return weights


class Shares:
    """Divides free slots between lanes by weight; what a lane does not use falls to the others.

    Smooth weighted round robin: a lane's turns are spread evenly, also over several calls. With
    `strict` the lanes are emptied in order instead.
    """

    def __init__(self, weights: Mapping[Lane, int], *, strict: bool) -> None:
        self._weights = dict(weights)
        self._credits = dict.fromkeys(weights, 0)
        self._strict = strict

    def share(self, lane: Lane) -> float:
        """Return the lane's part of everything, between 0 and 1.

        With `strict`, where the first lanes should never be found empty, half of what is before.
        """
        if self._strict:
            return 0.5 ** list(self._weights).index(lane)
        return self._weights[lane] / sum(self._weights.values())

    def most_fair(self, available: Mapping[Lane, int]) -> int:
        """Return how many could be picked with each lane that has any getting its whole share."""
        shares = {lane: self.share(lane) for lane, count in available.items() if count}
        total = sum(shares.values())
        return min((int(available[lane] * total / shares[lane]) for lane in shares), default=0)

    def pick(self, available: Mapping[Lane, int], slots: int) -> dict[Lane, int]:
        """Return how many of the available deliveries of each lane to take, `slots` in all."""
        left = {lane: count for lane, count in available.items() if count}
        if len(left) == 1:
            lane, count = next(iter(left.items()))
            return {lane: min(count, slots)}
        picked: dict[Lane, int] = {}
        while left and slots > 0:
            lane = self._next(left)
            picked[lane] = picked.get(lane, 0) + 1
            slots -= 1
            left[lane] -= 1
            if not left[lane]:
                del left[lane]
        return picked

    def _next(self, left: Mapping[Lane, int]) -> Lane:
        if self._strict:
            return next(lane for lane in self._weights if lane in left)
        total = 0
        for lane in left:
            self._credits[lane] += self._weights[lane]
            total += self._weights[lane]
        chosen = max(left, key=self._credits.__getitem__)
        self._credits[chosen] -= total
        return chosen
