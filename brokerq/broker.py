"""Seam 1: what brokerq asks of a message broker.

An adapter inherits these protocols by name and is proven by `brokerq.testing.BrokerContract`. All
calls of one broker come from one event loop. Queue names are the app's; the adapter puts the app's
prefix before them in the broker.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Protocol, runtime_checkable

from brokerq import defaults
from brokerq.duration import ZERO
from brokerq.message import Message


class Ordering(Enum):
    """What order a broker can keep."""

    NONE = "none"
    PER_KEY = "per key"


class Counting(Enum):
    """Which deliveries of a message a broker counts."""

    NONE = "none"
    ALL = "all"
    FAILURES = "failures"


class Durability(Enum):
    """What a confirmed message survives."""

    PROCESS = "nothing beyond the process"
    HOST = "a crash of the process and of the host"
    REPLICATED = "the loss of a host"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a broker can do, as numbers; tested by the contract, read by the core.

    Attributes:
        max_body: Bytes that headers and body may have together; None: no limit.
        max_delay: The longest delay of a publish; zero: none; None: any.
        max_batch: How many messages one round trip can carry.
        lease: For how long a delivery is owned unless extended; None: while connected.
        max_hold: For how long a delivery may be held, however often it is extended; None: for ever.
        ordering: What order can be kept.
        delayed_ordering: Whether a message with an ordering key may have a delay; if not, a copy on
            an ordered queue would lose its place, and none is asked for.
        max_levels: Priority levels a queue may have; None: any number.
        counting: Which deliveries are counted.
        durability: What a confirmed message survives.
        reports_lost_lease: Whether the broker itself refuses to settle what was delivered again;
            otherwise only the adapter's clock does.
        publish_in_transaction: Whether a publish can join the caller's database transaction.
    """

    max_body: int | None
    max_delay: timedelta | None
    max_batch: int
    lease: timedelta | None
    max_hold: timedelta | None
    ordering: Ordering
    delayed_ordering: bool
    max_levels: int | None
    counting: Counting
    durability: Durability
    reports_lost_lease: bool
    publish_in_transaction: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSpec:
    """A queue as the app declares it.

    Attributes:
        name: Letters, digits, `-`, `_` and `.`; at most 60.
        levels: Priority levels, most urgent first; at least one.
        ordered: Whether messages with the same ordering key are handed out one at a time, in order.
        lease: For how long a delivery is owned unless extended.
    """

    name: str
    levels: tuple[str, ...] = ("normal",)
    ordered: bool = False
    lease: timedelta = defaults.LEASE


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One priority level of one queue: what a consumer reads."""

    queue: str
    level: str = "normal"


@dataclass(slots=True, kw_only=True)
class Outgoing:
    """A message on its way to a lane. Not frozen, for the same reason as its message.

    Attributes:
        id: Job id, given to the broker as the message's own id.
        delay: Not to be delivered earlier, by no clock but the broker's; zero: at once.
        order: Ordering key; only on an ordered queue.
        tenant: For brokers that are fair between tenants; others ignore it.
    """

    lane: Lane
    message: Message
    id: str
    delay: timedelta = ZERO
    order: str | None = None
    tenant: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Delivery:
    """One hand-over of a message to one consumer, with a lease; settled exactly once.

    Nobody changes one; it is not frozen because that would double the time that making it takes.

    Attributes:
        id: The broker's own message id; None where the sender gave none.
        token: What the adapter needs to settle it; opaque.
        count: Deliveries of the message as the broker counts them, this one included; or None.
        in_place: The longest delay after which this very message can come back; zero: only a copy
            can be delayed.
    """

    message: Message
    lane: Lane
    id: str | None
    token: object
    count: int | None
    in_place: timedelta


@dataclass(frozen=True, slots=True)
class Ack:
    """The message is done with: remove it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reschedule:
    """The message again after `delay`: as the copy given, or (None) as this very message.

    A copy is confirmed before the original is removed; its delay is at most the longest of a
    publish. None is only given for delays up to the delivery's `in_place`. On an ordered queue the
    message keeps its place before later ones.
    """

    delay: timedelta
    message: Message | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Given back untouched, to be delivered again after `delay`; no attempt.

    Where the broker cannot delay the message itself the adapter makes a confirmed copy that is the
    same in every header. The delay is at most the delivery's `in_place` or, where that is longer,
    the longest of a publish.
    """

    delay: timedelta = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """To the queue's dead letters, as `message`: confirmed there before the original is removed."""

    message: Message


Verdict = Ack | Reschedule | Release | Dead


class Consumer(Protocol):
    """Takes deliveries from one lane."""

    @abstractmethod
    async def receive(self, limit: int) -> Sequence[Delivery]:
        """Return 1 to `limit` deliveries, waiting until there is one.

        Cancelling the wait strands nothing. Raises `ConnectionLostError` when the broker is gone:
        the consumer is then of no further use, all that it held is lost to it.
        """

    @abstractmethod
    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        """Carry out the verdicts; True for each that was.

        False: the lease was lost, or the follow-up could not be confirmed; the original was not
        removed and is, or will be, delivered again. A delivery that was settled, or handed back, is
        False too.
        """

    @abstractmethod
    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        """Begin the leases anew from now; False for each that was already lost or settled."""


class Broker(Protocol):
    """A message broker, as one app sees it.

    Every method but `close` raises a `BrokerqError` that says so before `open` and after `close`,
    and every one that is given a queue raises `UnknownQueueError` for one that is not declared.
    """

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this broker can do; constant, and known before `open`."""

    @abstractmethod
    async def open(self) -> None:
        """Connect. Raises `ConnectionLostError` or `StorageError`; twice is harmless."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect; what consumers hold goes back. Twice, or at the same time, is harmless."""

    @abstractmethod
    async def declare(self, queues: Sequence[QueueSpec], *, create: bool = True) -> None:
        """Bring the queues about, or with `create=False` only check them; twice is harmless.

        Raises `DriftError` naming every difference from what is there, `CapabilityError` for what
        the broker cannot keep.
        """

    @abstractmethod
    async def publish(self, messages: Sequence[Outgoing]) -> None:
        """Return when the broker has taken durable responsibility for all of them.

        Raises `PublishError` saying which are not taken (an undeclared lane among others) and which
        are unknown; the others are taken. Raises `BodyTooLargeError` and `CapabilityError` before
        anything is sent.
        """

    @abstractmethod
    def consume(self, lane: Lane, *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """Open a consumer that holds at most `prefetch` unsettled deliveries.

        Leaving hands back what was not settled, at once.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """How a queue stands; brokers may be off by what is on its way.

    Attributes:
        ready: Messages that could be delivered now.
        in_flight: Messages that are delivered and not settled.
        delayed: Messages that are not yet due.
        dead: Dead letters.
        oldest: Age of the oldest ready message; None where nothing is ready or nobody can tell.
    """

    queue: str
    ready: int
    in_flight: int
    delayed: int
    dead: int
    oldest: timedelta | None


@runtime_checkable
class Inspectable(Protocol):
    """A broker that can count and purge."""

    @abstractmethod
    async def stats(self, queues: Sequence[str]) -> Sequence[QueueStats]:
        """Return one entry for each queue, in the order given."""

    @abstractmethod
    async def purge(self, queue: str) -> int:
        """Remove what is ready or delayed, not what is in flight or dead; return how many."""


@runtime_checkable
class Backstop(Protocol):
    """A broker that by itself gives up on a message which was delivered too often."""

    @abstractmethod
    def salvage(self, queue: str, *, prefetch: int) -> AbstractAsyncContextManager[Consumer]:
        """Open a consumer of what the broker has dead-lettered by itself and nobody has judged yet.

        `Dead`: it stays, or is put, among the dead letters and is not delivered here again;
        `Ack`: it is removed from them; `Release`: it is looked at again later. Each delivery's
        message is as published, without anything that the broker has added, and its lane the one
        it was in. Reading costs next to nothing while there is nothing new.
        """


@runtime_checkable
class DeadLetters(Protocol):
    """A broker whose dead-letter queues can be read."""

    @abstractmethod
    def browse(self, queue: str) -> AbstractAsyncContextManager[AsyncIterator[Message]]:
        """Read the queue's dead letters, oldest first, without consuming them."""

    @abstractmethod
    async def discard(self, queue: str, letters: Collection[tuple[str, int]]) -> int:
        """Remove the dead letters with these (job id, epoch); return how many there were."""


class Batch(Broker, Inspectable, Protocol):
    """Messages that a host has handed over with one call of the program: a broker of just these.

    Consuming its lane gives these messages and no others, and `stats` counts them; publishing is
    what it is at the broker they come from. What is to be removed the host removes when it has its
    answer: until then it may all be delivered again.
    """

    @property
    @abstractmethod
    def lane(self) -> Lane:
        """Where all of them come from."""

    @property
    @abstractmethod
    def left(self) -> timedelta | None:
        """For how long the host still waits for its answer; None: for ever."""

    @abstractmethod
    async def settled(self) -> None:
        """Return when every one of them is settled, or lost."""

    @abstractmethod
    def answer(self) -> object:
        """Return what the host is to be told, by how the messages stand now."""


@runtime_checkable
class Handover(Protocol):
    """A broker whose messages can be handed over by a host, instead of being waited for."""

    @abstractmethod
    async def take_over(self, event: object, context: object, queues: Sequence[QueueSpec]) -> Batch:
        """Return what the host has called with.

        Raises `ConfigurationError` for what is no such call, `UnknownQueueError` for messages of
        none of the queues.
        """
