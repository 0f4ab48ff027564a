"""What is declared: the queues of an app, the numbers of their lanes, and drift."""

from __future__ import annotations

from collections.abc import Sequence

from brokerq.broker import QueueSpec
from brokerq.sql import topology
from brokerq.sql.topology import KnownLanes, LaneRow
from brokerq_postgres.database import Database
from brokerq_postgres.transaction import Rows, Transaction
from brokerq_postgres.wire import escape, unescape

LaneRows = topology.LaneRows


class Topology(KnownLanes):
    """The lanes of one app in the database."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool) -> None:
        there = await self.look()
        if list(topology.differences(queues, there, create=False)) or _other_leases(queues, there):
            if create:
                await self._database.change(lambda transaction: _bring_about(transaction, queues))
                await self.look()
            else:
                topology.check(queues, there, create=False)
        self.leases.update({spec.name: spec.lease for spec in queues})

    async def look(self) -> LaneRows:
        self.known = _read(await self._database.fetch("find_lanes", {"app": self._database.app}))
        return self.known

    def learn(self, rows: Rows) -> LaneRows:
        """Add what `find_lanes.sql` returned elsewhere; return what is known then."""
        self.known = {**self.known, **_read(rows)}
        return self.known


def _read(rows: Rows) -> LaneRows:
    return {
        (unescape(name), unescape(level)): LaneRow(
            id=lane, queue=queue, ordered=ordered, lease=lease
        )
        for name, level, lane, queue, ordered, lease in rows
    }


def _other_leases(queues: Sequence[QueueSpec], there: LaneRows) -> bool:
    leases = {queue: row.lease for (queue, _), row in there.items()}
    return any(leases.get(spec.name) != spec.lease.total_seconds() for spec in queues)


async def _bring_about(transaction: Transaction, queues: Sequence[QueueSpec]) -> None:
    await transaction.send("lock_topology", {"app": transaction.app})
    there = _read(await transaction.fetch("find_lanes", {"app": transaction.app}))
    topology.check(queues, there, create=True)
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
