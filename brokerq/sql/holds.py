"""What one consumer holds, and until when. Pure: the caller reads the clock.

A lease is judged by the consumer's own monotonic clock, in seconds: once it has ended here the
database is not asked any more, whether or not somebody else has taken the message since.
"""

from __future__ import annotations

from brokerq.broker import Delivery


class Hold:
    """A message that is held, by the id of its row: the token of its delivery."""

    __slots__ = ("id", "order_key", "until")

    def __init__(self, id: int, order_key: str | None, until: float) -> None:  # noqa: A002
        self.id = id
        self.order_key = order_key
        self.until = until


class Holds:
    """At most `limit` messages that are held at the same time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[int, Hold] = {}

    def add(self, id: int, order_key: str | None, until: float) -> Hold:  # noqa: A002
        """Hold a message that was just claimed; an earlier hold on it is over."""
        hold = self._held[id] = Hold(id, order_key, until)
        return hold

    def room(self, now: float) -> int:
        """Return how many more may be held; those whose leases have ended are let go first."""
        for hold in [hold for hold in self._held.values() if hold.until <= now]:
            del self._held[hold.id]
        return self._limit - len(self._held)

    def first_end(self) -> float | None:
        """Return when the first lease ends; None where nothing is held."""
        return min((hold.until for hold in self._held.values()), default=None)

    def find(self, delivery: Delivery, now: float) -> Hold | None:
        """Return the hold of a delivery; None where it was settled, lost or another's."""
        hold = delivery.token
        if not isinstance(hold, Hold) or self._held.get(hold.id) is not hold:
            return None
        return hold if now < hold.until else None

    def take(self, delivery: Delivery, now: float) -> Hold | None:
        """As `find`; it is held no more."""
        hold = self.find(delivery, now)
        if hold is not None:
            del self._held[hold.id]
        return hold

    def take_all(self) -> list[int]:
        """Let go of everything; return the ids."""
        ids = list(self._held)
        self._held.clear()
        return ids
