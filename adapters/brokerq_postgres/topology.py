"""What is declared: the queues of an app, the numbers of their lanes, and drift."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from brokerq.broker import Lane, QueueSpec
from brokerq.errors import DriftError, UnknownQueueError
from brokerq_postgres.database import Database
from brokerq_postgres.transaction import Rows, Transaction
from brokerq_postgres.wire import escape, unescape


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


LaneRows = dict[tuple[str, str], LaneRow]
"""By queue and level."""


class Topology:
    """The lanes of one app; a lane that is there stays there, so what is known stays true."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: LaneRows = {}
        self._leases: dict[str, timedelta] = {}

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool) -> None:
        """See `brokerq.broker.Broker.declare`."""
        there = await self.look()
        if list(differences(queues, there, create=False)) or _other_leases(queues, there):
            if create:
                await self._database.change(lambda transaction: _bring_about(transaction, queues))
                await self.look()
            else:
                _check(queues, there, create=False)
        self._leases.update({spec.name: spec.lease for spec in queues})

    @property
    def known(self) -> LaneRows:
        """What is known of the app's lanes; others may have been declared since."""
        return self._known

    async def look(self) -> LaneRows:
        """Return all lanes that the app has now."""
        self._known = _read(await self._database.fetch("find_lanes", {"app": self._database.app}))
        return self._known

    async def get(self, lane: Lane) -> LaneRow:
        """Return the lane. Raises `UnknownQueueError`."""
        place = (lane.queue, lane.level)
        row = self._known.get(place) or (await self.look()).get(place)
        if row is None:
            raise UnknownQueueError(
                f"queue {lane.queue!r} with level {lane.level!r} is not declared: declare it first"
            )
        return row

    def lease(self, lane: Lane, row: LaneRow) -> timedelta:
        """Return the lease: as this process declared it, else as the last one did."""
        return self._leases.get(lane.queue, timedelta(seconds=row.lease))

    def learn(self, rows: Rows) -> LaneRows:
        """Add what `find_lanes.sql` returned elsewhere; return what is known then."""
        self._known = {**self._known, **_read(rows)}
        return self._known

    def forget(self) -> None:
        """Look anew; the database may be another when it is opened again."""
        self._known = {}


def _read(rows: Rows) -> LaneRows:
    return {
        (unescape(name), unescape(level)): LaneRow(
            id=lane, queue=queue, ordered=ordered, lease=lease
        )
        for name, level, lane, queue, ordered, lease in rows
    }


def _check(queues: Sequence[QueueSpec], there: LaneRows, *, create: bool) -> None:
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


def _other_leases(queues: Sequence[QueueSpec], there: LaneRows) -> bool:
    leases = {queue: row.lease for (queue, _), row in there.items()}
    return any(leases.get(spec.name) != spec.lease.total_seconds() for spec in queues)


async def _bring_about(transaction: Transaction, queues: Sequence[QueueSpec]) -> None:
    await transaction.send("lock_topology", {"app": transaction.app})
    there = _read(await transaction.fetch("find_lanes", {"app": transaction.app}))
    _check(queues, there, create=True)
    names = {queue for queue, _ in there}
    for spec in queues:
        lease = spec.lease.total_seconds()
        queue = {"app": transaction.app, "name": escape(spec.name), "lease": lease}
        if spec.name in names:
            await transaction.send("change_lease", queue)
            continue
        names.add(spec.name)
        levels = [escape(level) for level in spec.levels]
        await transaction.send("add_queue", {**queue, "ordered": spec.ordered, "levels": levels})
