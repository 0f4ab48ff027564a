"""The statements of a consumer, as tasks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Sequence
from datetime import timedelta

from brokerq.broker import Delivery, Lane
from brokerq.sql.bell import LaneBell
from brokerq.sql.holds import Holds
from brokerq.sql.lane import Claimed, ClaimedRow, LaneStatements, Settling
from brokerq.sql.topology import LaneRow
from brokerq_postgres import deliveries as statements
from brokerq_postgres.claiming import Claims
from brokerq_postgres.database import Database
from brokerq_postgres.deliveries import Holder
from brokerq_postgres.wire import read_message, unescape_or_null

_SHORTEST_PAUSE = 0.005
"""Seconds; what is due and yet not to be had is just being taken by somebody else."""


class PostgresLane(LaneStatements[float]):
    """One lane, as one consumer sees it; hints are seconds."""

    def __init__(self, database: Database, lane: Lane, row: LaneRow, *, lease: timedelta) -> None:
        self._database = database
        self._lane = lane
        self._holder = Holder(lane=row.id, number=secrets.randbits(62), lease=lease.total_seconds())
        self._claims = Claims(database, self._holder)

    def claim(self, limit: int) -> asyncio.Future[Claimed[float]]:
        return asyncio.create_task(self._claim(limit), name=f"claim {self._lane}")

    async def _claim(self, limit: int) -> Claimed[float]:
        rows = await self._claims.take(limit)
        return rows, None if rows else await self._claims.next_event()

    def pause(self, hint: float | None) -> float:
        pause = self._database.options.poll.total_seconds()
        return pause if hint is None else min(pause, max(hint, _SHORTEST_PAUSE))

    def deliver(self, row: ClaimedRow, holds: Holds, until: float) -> Delivery:
        _, id_, order_key, job_id, count, headers, body = row
        return Delivery(
            message=read_message(headers, body),
            lane=self._lane,
            id=unescape_or_null(job_id),
            token=holds.add(id_, unescape_or_null(order_key), until),
            count=count,
            in_place=timedelta.max,
        )

    async def settle(self, settling: Sequence[Settling]) -> Collection[int]:
        return await statements.settle(self._database, self._holder, settling)

    async def extend(self, ids: Sequence[int]) -> Collection[int]:
        return await statements.extend(self._database, self._holder, ids)

    def hand_back(self, ids: Sequence[int]) -> asyncio.Future[None]:
        giving_back = statements.hand_back(self._database, self._holder, ids)
        return asyncio.create_task(giving_back, name=f"give back {self._lane}")

    def listen(self, bell: LaneBell) -> None:
        self._database.wakeup.add(self._holder.lane, bell)

    def ignore(self, bell: LaneBell) -> None:
        self._database.wakeup.remove(self._holder.lane, bell)
