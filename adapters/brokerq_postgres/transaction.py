"""A transaction under way: statements go out without waiting for each other's answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from brokerq_postgres.connection import Connection
from brokerq_postgres.queries import Queries

Values = Mapping[str, object]
Rows = list[tuple[Any, ...]]


class Answer(Protocol):
    """What a statement will have returned."""

    async def fetchall(self) -> Rows:
        """Wait for its rows."""
        ...


class Transaction:
    """Within `Database.change`, what a call may use.

    Attributes:
        app: The number that the app's rows bear.
        touched: Lanes in which something was put, and the seconds until the earliest is due.
    """

    __slots__ = ("_connection", "app", "queries", "touched")

    def __init__(self, connection: Connection, queries: Queries, app: int) -> None:
        self.app = app
        self.queries = queries
        self.touched: dict[int, float] = {}
        self._connection = connection

    def require_latest(self) -> None:
        """Raise `RefusedError` where a statement may not see what was committed before it began."""

    async def send(self, name: str, values: Values) -> Answer:
        """Send the statement of that name; what it returns can be fetched later."""
        cursor = self._connection.cursor(binary=True)
        return await cursor.execute(self.queries[name], values)

    async def fetch(self, name: str, values: Values) -> Rows:
        """Send the statement and wait for its rows."""
        return await (await self.send(name, values)).fetchall()

    def touch(self, lane: int, seconds: float) -> None:
        """Note that a message in the lane is due then."""
        if seconds < self.touched.get(lane, seconds + 1):
            self.touched[lane] = seconds
