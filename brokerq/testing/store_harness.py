"""What the store contract needs of the place under test."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Protocol

from brokerq.broker import Broker
from brokerq.store import Store


class ProgramConnection(Protocol):
    """A connection as Python's drivers have them, which begins a transaction with the first write.

    What is asked of it in a case begins none.
    """

    @abstractmethod
    def execute(self, statement: str, /) -> Any:
        """Run a statement."""

    @abstractmethod
    def commit(self) -> None:
        """Commit."""

    @abstractmethod
    def rollback(self) -> None:
        """Roll back."""


class StoreHarness(Protocol):
    """A store in a fresh place, and power over its time.

    Make one for each case, in the fixture `harness`; when the case is over, close all stores that
    were handed out and remove the place. Cases wait in proportion to `lease` and never for long.

    Attributes:
        store: Open; nothing has been written to its place yet.
        broker: Open, and in one database with `store`; None where the store is not `Colocated`.
        lease: What the cases use where a lease, a delay or a time to live must pass: short where
            time is real (0.5 s), anything where it is virtual. It should be many times as long as
            one call takes.
    """

    store: Store
    broker: Broker | None
    lease: timedelta

    @abstractmethod
    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC, by which the store judges due times."""

    @abstractmethod
    async def pass_time(self, duration: timedelta) -> None:
        """Let at least `duration` go by on every clock that the store looks at."""

    @abstractmethod
    async def another(self, prefix: str | None = None) -> Store:
        """Return one more open store on the same place, as another process would have it.

        `prefix` is that of another app; None: that of `store`.
        """

    def connection(self) -> AbstractContextManager[ProgramConnection] | None:
        """Open a connection of a program's own to the database of `store`.

        Leaving closes it without a commit. None, as inherited: the store is not `Transactional`.
        """
        return None

    @asynccontextmanager
    async def outage(self) -> AsyncGenerator[None]:
        """Make the place unavailable to `store` for a while.

        As inherited it only closes the store; override it where a server can be cut off.
        """
        await self.store.close()
        try:
            yield
        finally:
            await self.store.open()
