"""What a publish sends: from arguments and options to messages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from brokerq.broker import Capabilities, Lane, Ordering, Outgoing, QueueSpec
from brokerq.duration import ZERO, within
from brokerq.errors import BodyTooLargeError, CapabilityError
from brokerq.message import Message
from brokerq.options import PublishOptions
from brokerq.registry import Queue, Registry
from brokerq.store import NewJob
from brokerq.wire import Head, write_headers


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One job that a program wants published.

    Attributes:
        body: The arguments, encoded.
        key: Idempotency key; None: the job id stands for it.
        fingerprint: Digest of the payload; only with a key.
    """

    job: str
    queue: str
    body: bytes
    options: PublishOptions
    priority: str | None = None
    key: str | None = None
    fingerprint: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A job that is ready to be sent: what is recorded of it, and what travels.

    Attributes:
        outgoing: With no longer a delay than the broker can keep: it comes early and is released
            again, where there is no outbox to keep it.
        delay: The delay asked for, or until the instant asked for, by the publisher's clock.
    """

    new: NewJob
    outgoing: Outgoing
    delay: timedelta = ZERO

    @property
    def waits(self) -> bool:
        """Whether it belongs into an outbox, its delay being too long for the broker.

        One with an ordering key does not: it keeps its place before later ones in the broker.
        """
        return self.delay > self.outgoing.delay and self.outgoing.order is None

    @property
    def kept(self) -> Outgoing:
        """What an outbox is given."""
        return replace(self.outgoing, delay=self.delay)


def prepare(
    request: Request,
    registry: Registry,
    capabilities: Capabilities,
    *,
    job_id: str,
    now: datetime,
    outbox: bool,
) -> Parcel:
    """Return what is to be sent.

    The message says when it may begin only if an instant was asked for, or if nobody keeps the
    whole of its delay: not the broker, and there is no `outbox` either. Raises `UnknownQueueError`,
    `CapabilityError` or `BodyTooLargeError`: nothing is weakened.
    """
    options = request.options
    name = options.queue or request.queue
    priority = options.priority or request.priority
    if request.job not in registry.jobs and name not in registry.queues:
        # Published by name where the code is not at hand: the broker knows its queues.
        queue = Queue(spec=QueueSpec(name=name, levels=(priority or "normal",)))
    else:
        queue = registry.queue(name)
    level = registry.level(queue, priority)
    due = options.not_before(now)
    delay = ZERO if due is None else due - now
    fits = within(delay, capabilities.max_delay) == delay or (outbox and options.order is None)
    head = Head(
        id=job_id,
        job=request.job,
        first_at=now + delay,
        key=request.key,
        fingerprint=request.fingerprint,
        not_before=due if options.at is not None or not fits else None,
        expires_at=options.expires_at(now),
        priority=options.priority,
        order=options.order,
        tenant=options.tenant,
        correlation=options.correlation,
        cause=options.cause,
        max_attempts=options.max_attempts,
        tags=tuple(dict.fromkeys((*request.tags, *options.tags))),
        user=options.headers,
    )
    _check_order(head, delay, queue.spec, capabilities)
    lane = Lane(queue=queue.spec.name, level=level)
    parcel = _pack(head, request.body, lane, delay, capabilities)
    _check_size(parcel.new.message, capabilities.max_body, request.job)
    return parcel


def relabel(parcel: Parcel, capabilities: Capabilities, *, job_id: str, now: datetime) -> Parcel:
    """Return the same job under another id."""
    head = parcel.new.head._replace(id=job_id)
    due = head.not_before
    delay = parcel.delay if due is None else max(ZERO, due - now)
    return _pack(head, parcel.new.message.body, parcel.outgoing.lane, delay, capabilities)


def _pack(head: Head, body: bytes, lane: Lane, delay: timedelta, can: Capabilities) -> Parcel:
    message = Message(headers=write_headers(head), body=body)
    return Parcel(
        new=NewJob(
            head=head,
            message=message,
            queue=lane.queue,
            level=lane.level,
            delay=delay if head.not_before is None else ZERO,
        ),
        outgoing=Outgoing(
            lane=lane,
            message=message,
            id=head.id,
            delay=within(delay, can.max_delay),
            order=head.order,
            tenant=head.tenant,
        ),
        delay=delay,
    )


def _check_order(head: Head, delay: timedelta, queue: QueueSpec, can: Capabilities) -> None:
    if head.order is None:
        return
    if not queue.ordered:
        raise CapabilityError(
            f"queue {queue.name!r} is not ordered: declare it with "
            f"bq.queue({queue.name!r}, ordered=True), or publish without order="
        )
    if can.ordering is Ordering.NONE:
        raise CapabilityError("this broker keeps no order: publish without order=")
    if delay and not can.delayed_ordering:
        raise CapabilityError("this broker cannot delay a job that has an ordering key")


def _check_size(message: Message, limit: int | None, job: str) -> None:
    if limit is None:
        return
    headers = message.headers
    characters = sum(map(len, headers)) + sum(map(len, headers.values()))
    if len(message.body) + 4 * characters <= limit:  # UTF-8 takes at most four bytes for one
        return
    size = message_size(message)
    if size > limit:
        raise BodyTooLargeError(
            f"the message for {job!r} has {size} bytes, this broker takes {limit}: "
            "pass a reference to the data instead"
        )


def message_size(message: Message) -> int:
    """Return the bytes that headers and body have together."""
    return len(message.body) + sum(
        len(name.encode()) + len(text.encode()) for name, text in message.headers.items()
    )


def positions(batch: Sequence[int], within: Sequence[int]) -> tuple[int, ...]:
    """Map positions within a part of a batch to positions in the whole."""
    return tuple(batch[position] for position in within)
