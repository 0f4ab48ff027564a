"""What a publish sends: from arguments and options to messages. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from brokerq.broker import Capabilities, Lane, Ordering, Outgoing, QueueSpec
from brokerq.duration import ZERO, within
from brokerq.errors import BodyTooLargeError, CapabilityError
from brokerq.message import Message
from brokerq.options import PublishOptions
from brokerq.registry import Queue, Registry
from brokerq.store import NewJob
from brokerq.wire import Head, of_another, published_at, write_headers

_LONGEST_IDENTITY = 500
"""Characters that an id, a key and a fingerprint have with their names, at the most."""


class Request(NamedTuple):
    """One job that a program wants published; a tuple, as thousands may be published at once.

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


class Parcel(NamedTuple):
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
    requests: Sequence[Request],
    registry: Registry,
    capabilities: Capabilities,
    *,
    new_id: Callable[[], str],
    now: datetime,
    outbox: bool,
    labels: Labels | None = None,
) -> list[Parcel]:
    """Return what is to be sent.

    The message says when it may begin only if an instant was asked for, or if nobody keeps the
    whole of its delay: not the broker, and there is no `outbox` either. `labels` are kept from call
    to call with the same registry, capabilities and outbox. Raises `UnknownQueueError`,
    `CapabilityError` or `BodyTooLargeError`: nothing is weakened.
    """
    labels = {} if labels is None else labels
    parcels: list[Parcel] = []
    label: Label | None = None
    for request in requests:
        if label is None or not _fits(label, request):
            label = labels.get(request.job)
            if label is not None and _fits(label, request) and _lasts(label, registry):
                label = _at(label, now)
            else:
                label = _label(request, registry, capabilities, now=now, outbox=outbox)
                if request.job in registry.jobs:  # others may have ever new names
                    labels[request.job] = label
        parcels.append(_pack(request, label, new_id()))
    return parcels


class Label(NamedTuple):
    """What jobs that are published alike have in common.

    Attributes:
        request: One of them.
        queue: As the registry knew it; None: not at all.
        head: Without id, key and fingerprint.
        headers: What that says.
        delay: As it was asked for.
        sent: As the broker is asked for it.
        own: As it is recorded.
        room: How long a body surely fits, with a key; None: any.
    """

    request: Request
    queue: Queue | None
    head: Head
    headers: Mapping[str, str]
    lane: Lane
    delay: timedelta
    sent: timedelta
    own: timedelta
    can: Capabilities
    room: int | None


Labels = dict[str, Label]
"""The last one of each job."""


def _fits(label: Label, request: Request) -> bool:
    other = label.request
    return request.options is other.options and (
        request.job,
        request.queue,
        request.priority,
        request.tags,
    ) == (other.job, other.queue, other.priority, other.tags)


def _lasts(label: Label, registry: Registry) -> bool:
    """Tell whether the label says the same now as when it was made."""
    options = label.request.options
    timeless = options.delay is None and options.at is None and options.deadline is None
    return timeless and registry.queues.get(label.lane.queue) is label.queue


def _at(label: Label, now: datetime) -> Label:
    """Return the label of jobs that are published now; it lasts, so it has no delay."""
    headers = {**label.headers, "bq-first-at": now.isoformat()}
    head = published_at(label.head, now)
    # By position, as it is for each publish: `_replace` takes twice as long.
    return Label(label.request, label.queue, head, headers, *label[4:])


def _label(
    request: Request, registry: Registry, can: Capabilities, *, now: datetime, outbox: bool
) -> Label:
    options = request.options
    name = options.queue or request.queue
    priority = options.priority or request.priority
    known = registry.queues.get(name)
    if request.job not in registry.jobs and known is None:
        # Published by name where the code is not at hand: the broker knows its queues.
        queue = Queue(spec=QueueSpec(name=name, levels=(priority or "normal",)))
    else:
        queue = registry.queue(name)
    lane = Lane(queue=queue.spec.name, level=registry.level(queue, priority))
    due = options.not_before(now)
    delay = ZERO if due is None else due - now
    kept = within(delay, can.max_delay) == delay or (outbox and options.order is None)
    head = Head(
        id="",
        job=request.job,
        first_at=now + delay,
        not_before=due if options.at is not None or not kept else None,
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
    _check_order(head, delay, queue.spec, can)
    headers = write_headers(head)
    characters = _LONGEST_IDENTITY + sum(map(len, headers)) + sum(map(len, headers.values()))
    # UTF-8 takes at most four bytes for one.
    room = None if can.max_body is None else can.max_body - 4 * characters
    sent, own = _delays(head, delay, can)
    return Label(request, known, head, headers, lane, delay, sent, own, can, room)


def _delays(head: Head, delay: timedelta, can: Capabilities) -> tuple[timedelta, timedelta]:
    """Return what the broker is asked for, and what is recorded of the delay."""
    return within(delay, can.max_delay), delay if head.not_before is None else ZERO


def _pack(request: Request, label: Label, job_id: str) -> Parcel:
    head, headers = of_another(label.head, label.headers, job_id, request.key, request.fingerprint)
    message = Message(headers=headers, body=request.body)
    if label.room is not None and len(request.body) > label.room:
        _check_size(message, label.can.max_body, request.job)
    lane = label.lane
    return Parcel(
        NewJob(head, message, lane.queue, lane.level, label.own),
        Outgoing(
            lane=lane,
            message=message,
            id=job_id,
            delay=label.sent,
            order=head.order,
            tenant=head.tenant,
        ),
        label.delay,
    )


def relabel(parcel: Parcel, capabilities: Capabilities, *, job_id: str, now: datetime) -> Parcel:
    """Return the same job under another id."""
    new, outgoing = parcel.new, parcel.outgoing
    head = new.head._replace(id=job_id)
    due = head.not_before
    delay = parcel.delay if due is None else max(ZERO, due - now)
    sent, own = _delays(head, delay, capabilities)
    message = Message(headers=write_headers(head), body=new.message.body)
    return Parcel(
        new._replace(head=head, message=message, delay=own),
        replace(outgoing, message=message, id=job_id, delay=sent),
        delay,
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
    size = message_size(message)
    if limit is not None and size > limit:
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
