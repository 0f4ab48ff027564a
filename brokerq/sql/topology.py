"""The lanes of one app: what is known of them, and how they differ from what the app declares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from brokerq.broker import Lane, QueueSpec
from brokerq.errors import DriftError, UnknownQueueError


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneRow:
    """A lane as the database knows it.

    Attributes:
        id: Never given to another lane, even of another app.
        queue: The queue's own number.
        lease: Seconds.
    """

    id: int
    queue: int
    ordered: bool
    lease: float


LaneRows = Mapping[tuple[str, str], LaneRow]
"""By queue and level."""


class KnownLanes(ABC):
    """The lanes of one app; a lane that is there stays there, so what is known stays true.

    Attributes:
        known: What is known; others may have been declared since.
        leases: Of the queues that this process declared.
    """

    def __init__(self) -> None:
        self.known: LaneRows = {}
        self.leases: dict[str, timedelta] = {}

    @abstractmethod
    async def declare(self, queues: Sequence[QueueSpec], *, create: bool) -> None:
        """See `brokerq.broker.Broker.declare`."""

    @abstractmethod
    async def look(self) -> LaneRows:
        """Return all lanes that the app has now; they are known from then on."""

    async def get(self, lane: Lane) -> LaneRow:
        """Return the lane. Raises `UnknownQueueError`."""
        place = (lane.queue, lane.level)
        row = self.known.get(place) or (await self.look()).get(place)
        if row is None:
            raise UnknownQueueError(
                f"queue {lane.queue!r} with level {lane.level!r} is not declared: declare it first"
            )
        return row

    def lease(self, lane: Lane, row: LaneRow) -> timedelta:
        """Return the lease: as this process declared it, else as the last one did."""
        return self.leases.get(lane.queue, timedelta(seconds=row.lease))

    def forget(self) -> None:
        """Look anew; the database may be another when it is opened again."""
        self.known = {}


def check(queues: Sequence[QueueSpec], there: LaneRows, *, create: bool) -> None:
    """Raise `DriftError` if something is not as wanted, or, unless it is created, missing."""
    found = list(differences(queues, there, create=create))
    if found:
        raise DriftError("; ".join(found))


def differences(wanted: Sequence[QueueSpec], there: LaneRows, *, create: bool) -> Iterator[str]:
    """Say, one sentence each, what is not as wanted. A lease may change."""
    levels: dict[str, list[str]] = {}
    ordered: dict[str, bool] = {}
    for (queue, level), row in there.items():
        levels.setdefault(queue, []).append(level)
        ordered[queue] = row.ordered
    for spec in wanted:
        name = spec.name
        if name not in levels:
            if not create:
                yield f"queue {name!r} is not there"
            continue
        if set(levels[name]) != set(spec.levels):
            yield (
                f"queue {name!r} has the levels {', '.join(levels[name])}, "
                f"the app declares {', '.join(spec.levels)}"
            )
        if ordered[name] != spec.ordered:
            yield (
                f"queue {name!r} is {'' if ordered[name] else 'not '}ordered, "
                f"the app declares that it is{'' if spec.ordered else ' not'}"
            )
