"""The statements of a consumer, as the file's writing thread runs them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Sequence
from datetime import timedelta

from brokerq.broker import Ack, Delivery, Lane
from brokerq.sql.bell import LaneBell
from brokerq.sql.holds import Holds
from brokerq.sql.lane import Claimed, ClaimedRow, LaneStatements, Settling
from brokerq.sql.topology import LaneRow
from brokerq_sqlite import deliveries as statements
from brokerq_sqlite.database import Database
from brokerq_sqlite.deliveries import Claim, Holder, NextEvent
from brokerq_sqlite.wire import read_message

_LOOK_EVERY = 1.0
"""Seconds after which a consumer looks by itself, should a wake-up have been lost."""


class SqliteLane(LaneStatements[NextEvent]):
    """One lane, as one consumer sees it."""

    def __init__(self, database: Database, lane: Lane, row: LaneRow, *, lease: timedelta) -> None:
        self._database = database
        self._clock = database.clock
        self._lane = lane
        self._row = row
        self._lease = lease.total_seconds()
        self._number = secrets.randbits(62)

    def claim(self, limit: int) -> asyncio.Future[Claimed[NextEvent]]:
        mono = self._clock.monotonic()
        now = self._database.now()
        wanted = Claim(self._row.id, self._number, limit, now, mono, mono + self._lease)
        return self._database.write(
            lambda transaction: statements.claim(transaction, wanted), durable=False
        )

    def pause(self, hint: NextEvent | None) -> float:
        pause = _LOOK_EVERY
        if hint is None:
            return pause
        if hint.due is not None:
            pause = min(pause, (hint.due - self._database.now()) / 1e6)
        if hint.lapse is not None:
            pause = min(pause, hint.lapse - self._clock.monotonic())
        return pause

    def deliver(self, row: ClaimedRow, holds: Holds, until: float) -> Delivery:
        _, id_, order_key, job_id, count, headers, body = row
        return Delivery(
            message=read_message(headers, body),
            lane=self._lane,
            id=job_id,
            token=holds.add(id_, order_key, until),
            count=count,
            in_place=timedelta.max,
        )

    async def settle(self, settling: Sequence[Settling]) -> Collection[int]:
        holder = Holder(lane=self._row.id, number=self._number, now=self._database.now())
        # Lost with the host, a message that was done with comes again: its record says so.
        done_with = all(isinstance(one.verdict, Ack) for one in settling)
        return await self._database.write(
            lambda transaction: statements.settle(transaction, holder, settling),
            durable=not done_with,
            patient=done_with,
        )

    async def extend(self, ids: Sequence[int]) -> Collection[int]:
        number, until = self._number, self._clock.monotonic() + self._lease
        return await self._database.write(
            lambda transaction: statements.extend(transaction, number, ids, until), durable=False
        )

    def hand_back(self, ids: Sequence[int]) -> asyncio.Future[None]:
        lane, number = self._row.id, self._number
        return self._database.write(
            lambda transaction: statements.hand_back(transaction, lane, number, ids), durable=False
        )

    def listen(self, bell: LaneBell) -> None:
        self._database.wakeup.add(self._row.id, bell)

    def ignore(self, bell: LaneBell) -> None:
        self._database.wakeup.remove(self._row.id, bell)
