"""Which messages of a lane a consumer takes next: in order, and fairly between tenants.

While the lane has only messages without a tenant, a claim is one look at the head of one index. It
begins where the last one ended: what was removed before that place is passed over one by one as
long as somebody's old snapshot keeps it. What came back before it is found by the next claim that
looks from the beginning: one finds less than it wants, or it has been some time.

Otherwise it walks over the tenants that have messages, from where it stopped the last time, and
takes the same share of each: as many steps as messages are wanted, however many tenants there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from brokerq.sql.lane import ClaimedRow
from brokerq_postgres.database import Database
from brokerq_postgres.deliveries import Holder
from brokerq_postgres.transaction import Rows

_LOOK_FOR_TENANTS = 0.25
"""Seconds after which a consumer looks whether others than the one it serves have work."""
_SHARE_OF_LOOKING = 10
"""It looks less often where that takes long: once in so many times of what it took,"""
_LONGEST_WITHOUT_LOOKING = 5.0
"""and at least once in so many seconds."""
_BEGINNING = datetime(1, 1, 2, tzinfo=UTC).timestamp()
"""Instants are in seconds since 1970: exact to the microsecond, and read in no time."""
_FEWEST_WALKED = 100
_MOST_WALKED = 500
_ALONE = ""
_NEXT = "\x01"
"""Added to a text it makes the next one: PostgreSQL has no smaller character."""


class Claims:
    """The claims of one consumer, one after the other."""

    def __init__(self, database: Database, holder: Holder) -> None:
        self._database = database
        self._holder = holder
        self._fair = False
        self._start = ""
        self._look_at = 0.0
        self._since = _BEGINNING

    async def take(self, limit: int) -> Sequence[ClaimedRow]:
        """Return messages that this consumer now holds; none where there is nothing."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        if not self._fair and began < self._look_at:
            rows = await self._take_from(self._since, limit)
            if not rows and self._since > _BEGINNING:
                rows = await self._take_from(_BEGINNING, limit)
        else:
            rows = await self._take_fairly(limit)
            took = loop.time() - began
            pause = max(_LOOK_FOR_TENANTS, _SHARE_OF_LOOKING * took)
            self._look_at = began + min(pause, _LONGEST_WITHOUT_LOOKING)
        self._since = rows[-1][0] if len(rows) == limit else _BEGINNING
        return rows

    async def _take_from(self, since: float, limit: int) -> Sequence[ClaimedRow]:
        values = {**self._values(limit), "tenant": _ALONE, "since": since}
        return _sorted(await self._database.fetch("claim_messages", values))

    async def _take_fairly(self, limit: int) -> Sequence[ClaimedRow]:
        """Take from the tenants whose turn it is; go round once until there is something."""
        rounds = 1 if self._start else 0
        while True:
            rows = await self._walk(limit)
            at_end = not self._start
            if rows or (at_end and not rounds):
                return rows
            rounds -= at_end

    async def _walk(self, limit: int) -> Sequence[ClaimedRow]:
        values = {
            **self._values(limit),
            "start": self._start,
            "most": max(limit, _FEWEST_WALKED),
        }
        rows = await self._database.fetch("claim_fairly", values)
        last, at_end, others = rows[0][7:]
        self._fair = others or bool(self._start)
        self._start = "" if at_end else last + _NEXT
        return _sorted([row[:7] for row in rows if row[1] is not None])

    def _values(self, limit: int) -> dict[str, object]:
        holder = self._holder
        return {
            "lane": holder.lane,
            "holder": holder.number,
            "lease": holder.lease,
            "limit": limit,
        }

    async def next_event(self) -> float | None:
        """Return in how many seconds something may be to be had; None: nobody knows of anything."""
        values = {"lane": self._holder.lane, "most": _MOST_WALKED}
        ((seconds, others),) = await self._database.fetch("find_next_event", values)
        self._fair = self._fair or others
        return None if seconds is None else float(seconds)


def _sorted(rows: Rows) -> Sequence[ClaimedRow]:
    """PostgreSQL returns what it changed in no particular order; ids are unique."""
    return sorted(rows)
