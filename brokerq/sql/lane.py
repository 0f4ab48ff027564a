"""What an adapter does for a consumer: the statements on the messages of one lane."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from brokerq.broker import Delivery, Verdict
from brokerq.sql.bell import LaneBell
from brokerq.sql.holds import Holds

Hint = TypeVar("Hint")

ClaimedRow = tuple[Any, int, str | None, str | None, int, str, bytes]
"""When it was due, as the database says it; id, order key, job id, deliveries, headers, body."""

Claimed = tuple[Sequence[ClaimedRow], Hint | None]
"""The messages; without any, what was seen of when there may be some, if anything was."""


class Settling(NamedTuple):
    """A verdict on the message with that row id."""

    id: int
    order_key: str | None
    verdict: Verdict


class LaneStatements(Protocol[Hint]):
    """The statements of one consumer.

    Its messages bear a number that no other consumer ever has: whoever took one over since has
    another, and a statement for the first one finds nothing. Every one raises a `BrokerqError`
    where the database cannot be reached.
    """

    @abstractmethod
    def claim(self, limit: int) -> asyncio.Future[Claimed[Hint]]:
        """Take up to so many messages that are due, in order; what is held for too long is free.

        The lease begins no earlier than the call.
        """

    @abstractmethod
    def pause(self, hint: Hint | None) -> float:
        """Return for how many seconds it is not worth to look again, unless the bell rings."""

    @abstractmethod
    def deliver(self, row: ClaimedRow, holds: Holds, until: float) -> Delivery:
        """Return the delivery of a message, which is held from now on."""

    @abstractmethod
    async def settle(self, settling: Sequence[Settling]) -> Collection[int]:
        """Carry the verdicts out; return the ids of those that were."""

    @abstractmethod
    async def extend(self, ids: Sequence[int]) -> Collection[int]:
        """Begin the leases anew, no earlier than the call; return the ids that are still held."""

    @abstractmethod
    def hand_back(self, ids: Sequence[int]) -> asyncio.Future[None]:
        """Give back what was not looked at: it keeps its place, and the delivery does not count."""

    @abstractmethod
    def listen(self, bell: LaneBell) -> None:
        """Ring the bell from now on for every message that comes into the lane."""

    @abstractmethod
    def ignore(self, bell: LaneBell) -> None:
        """Ring it no more."""
