"""Seam 2, the part about messages that the broker does not have yet.

They are delayed for longer than it can keep them, or were published inside a database transaction.
A relay takes what is due, publishes it under a lease and removes it once that is confirmed. Killed
in between, it publishes the same message again: same id, same epoch, so it runs once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, Protocol

from brokerq.broker import Outgoing
from brokerq.record import NewJob, ReserveAnswer


class Taken(NamedTuple):
    """A message on its way out of the outbox.

    Attributes:
        id: The row's; what `sent` and `put_back` are told.
        outgoing: With what remains of its delay by the store's clock; zero where it is due.
    """

    id: int
    outgoing: Outgoing


class Backlog(NamedTuple):
    """The messages of one queue that are in the outbox.

    Attributes:
        waiting: All of them, those under way included.
        due: Those that should be in the broker by now.
    """

    waiting: int
    due: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStats:
    """How the outbox stands.

    Attributes:
        queues: Of each queue that has messages in it.
        overdue: For how long the oldest due one has been; zero where none is due.
    """

    queues: Mapping[str, Backlog]
    overdue: timedelta

    def of(self, queue: str) -> Backlog:
        """Return how much of one queue is in it."""
        return self.queues.get(queue, Backlog(0, 0))

    @property
    def waiting(self) -> int:
        """How many messages are in it."""
        return sum(backlog.waiting for backlog in self.queues.values())

    @property
    def due(self) -> int:
        """How many of them should be in the broker by now."""
        return sum(backlog.due for backlog in self.queues.values())


class Outbox(Protocol):
    """Messages kept in the store until the broker has them.

    Due times are those of the store's wall clock, leases those of its lease clock. `Jobs.cancel`
    removes the message of a job that it ends.
    """

    @abstractmethod
    async def schedule(self, jobs: Sequence[tuple[NewJob, Outgoing]]) -> Sequence[ReserveAnswer]:
        """Take the keys, keep the messages and record the jobs as published, in one transaction.

        A message is due at its head's `not_before`, else when its delay is over, from now on.
        A job without a key is always `Reserved`. Only `Reserved` ones were kept; `Pending` with no
        wait is a lapsed reservation: ask again with the job under that id, which takes it over.
        Whether the lanes are declared is not looked at.
        """

    @abstractmethod
    async def take(
        self, *, owner: str, lease: timedelta, ahead: timedelta, limit: int
    ) -> Sequence[Taken]:
        """Lease up to `limit` messages that are due within `ahead`, the earliest first.

        A message whose lease has lapsed is taken anew; two relays never hold the same one. Of the
        messages of a queue with one ordering key only the first that was kept can be taken, until
        it is gone.
        """

    @abstractmethod
    async def sent(self, ids: Sequence[int], *, owner: str) -> None:
        """Remove messages that the broker has confirmed; one taken over by another owner stays."""

    @abstractmethod
    async def put_back(self, ids: Sequence[int], *, owner: str, delay: timedelta) -> None:
        """End the lease of messages that the broker refused.

        They are not taken again before `delay`, whatever is asked for `ahead`; when they are due
        does not change. One taken over by another owner stays that one's.
        """

    @abstractmethod
    async def next_due(self, *, ahead: timedelta) -> timedelta | None:
        """Return how long until `take` would return something; None: nothing that nobody holds.

        Zero where it would already. A lease that lapses meanwhile may make it earlier.
        """

    @abstractmethod
    async def outbox(self) -> OutboxStats:
        """Count what is there."""
