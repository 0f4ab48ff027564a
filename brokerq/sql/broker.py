"""What is the same in every broker in a database: opening, declaring, consuming, browsing."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Generic, Protocol

from brokerq.broker import Broker, Consumer, DeadLetters, Lane, QueueSpec
from brokerq.clock import Clock
from brokerq.message import Message
from brokerq.sql.bell import LaneBell
from brokerq.sql.consumer import LaneConsumer
from brokerq.sql.lane import Hint, LaneStatements
from brokerq.sql.topology import KnownLanes, LaneRow


class Connected(Protocol):
    """A database that the broker and the store of one URL share."""

    @property
    @abstractmethod
    def forked(self) -> bool:
        """Whether it was opened by the parent of this process."""

    @abstractmethod
    def require_open(self, is_open: bool) -> None:  # noqa: FBT001 - what its user thinks
        """Raise a `BrokerqError` if it is not open, or only in the parent process."""

    @abstractmethod
    async def open(self) -> None:
        """Begin to use it; each call needs its own `close`."""

    @abstractmethod
    async def close(self) -> None:
        """End the use."""


class LaneBroker(Broker, DeadLetters, Generic[Hint]):
    """One app's queues; `slack` is that of the bells, in seconds."""

    def __init__(
        self, connected: Connected, lanes: KnownLanes, *, clock: Clock, slack: float
    ) -> None:
        self._connected = connected
        self._lanes = lanes
        self._clock = clock
        self._slack = slack
        self._consumers: set[LaneConsumer[Hint]] = set()
        self._is_open = False
        self._turn = asyncio.Lock()

    @abstractmethod
    def _statements(self, lane: Lane, row: LaneRow, lease: timedelta) -> LaneStatements[Hint]:
        """Return the statements of a new consumer."""

    @abstractmethod
    def _letters(self, queue: str) -> AsyncGenerator[Message]:
        """Read the queue's dead letters page by page, oldest first."""

    async def open(self) -> None:
        """See `brokerq.broker.Broker.open`; what the parent process had open is its own."""
        async with self._turn:
            if self._is_open and not self._connected.forked:
                return
            self._consumers.clear()
            self._lanes.forget()
            await self._connected.open()
            self._is_open = True

    async def close(self) -> None:
        """See `brokerq.broker.Broker.close`."""
        async with self._turn:
            if not self._is_open:
                return
            self._is_open = False
            try:
                for consumer in list(self._consumers):
                    await consumer.close()
            finally:
                await self._connected.close()

    def _require_open(self) -> None:
        self._connected.require_open(self._is_open)

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool = True) -> None:
        """See `brokerq.broker.Broker.declare`."""
        self._require_open()
        await self._lanes.declare(queues, create=create)

    @asynccontextmanager
    async def consume(self, lane: Lane, *, prefetch: int) -> AsyncGenerator[Consumer]:
        """See `brokerq.broker.Broker.consume`."""
        self._require_open()
        row = await self._lanes.get(lane)
        lease = self._lanes.lease(lane, row)
        consumer = LaneConsumer(
            self._statements(lane, row, lease),
            LaneBell(slack=self._slack),
            lease=lease,
            prefetch=prefetch,
            clock=self._clock,
        )
        self._consumers.add(consumer)
        try:
            yield consumer
        finally:
            self._consumers.discard(consumer)
            await asyncio.shield(consumer.close())

    @asynccontextmanager
    async def browse(self, queue: str) -> AsyncGenerator[AsyncIterator[Message]]:
        """See `brokerq.broker.DeadLetters.browse`."""
        self._require_open()
        letters = self._letters(queue)
        try:
            yield letters
        finally:
            await letters.aclose()
