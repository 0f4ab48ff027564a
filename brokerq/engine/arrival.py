"""From a delivery to what is claimed, and from its claim to a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from brokerq.broker import Delivery
from brokerq.definition import Definition
from brokerq.duration import ZERO
from brokerq.engine.lanes import LaneReader
from brokerq.engine.run import Run
from brokerq.message import Message
from brokerq.outcome import Unrunnable
from brokerq.payload import fingerprint
from brokerq.record import Claimed
from brokerq.registry import Registry
from brokerq.store import Claim, NewJob
from brokerq.wire import Head, WireError, adopt, read_head


@dataclass(slots=True, eq=False)
class Arrival:
    """A delivery whose headers were read.

    Attributes:
        unreadable: Why the headers cannot be read; `head` is then a makeshift.
        early: Whether it is claimed before there is a slot for it.
    """

    source: LaneReader
    delivery: Delivery
    message: Message
    head: Head
    unreadable: str | None = None
    early: bool = False


def read_arrival(
    source: LaneReader,
    delivery: Delivery,
    registry: Registry,
    *,
    new_id: Callable[[], str],
    now: datetime,
) -> Arrival:
    """Read the headers; what a message written by hand leaves out is filled in."""
    message = delivery.message
    said = message.headers.get
    if not (said("bq-id") and said("bq-job") and said("bq-first-at")):  # written by hand
        queue = registry.queues.get(delivery.lane.queue)
        message = adopt(
            message,
            id=delivery.id or new_id(),
            default_job=queue.default_job if queue is not None else None,
            now=now,
        )
    try:
        head = read_head(message)
        definition = registry.jobs.get(head.job)
        if definition is not None and definition.idempotency_key is not None:
            head = _keyed(head, message, definition)
    except WireError as exc:
        id_, job = (_as_text(message.headers.get(name, "")) for name in ("bq-id", "bq-job"))
        message = replace(message, headers={**message.headers, "bq-id": id_})
        head = Head(id=id_, job=job, first_at=now)
        unreadable = str(exc) if "bq-job" in message.headers else None
        return Arrival(source, delivery, message, head, unreadable)
    return Arrival(source, delivery, message, head)


def _keyed(head: Head, message: Message, definition: Definition) -> Head:
    """Give a message written by hand the key that a publisher would have given it."""
    if head.fingerprint is not None:
        return head
    if head.key is not None:
        return head._replace(fingerprint=_fingerprint(message.body))
    try:
        key = definition.key(definition.signature.payload.decode(message.body))
    except Exception:  # noqa: BLE001 - a body that does not fit is found when it is decoded
        return head
    return head._replace(key=key, fingerprint=_fingerprint(message.body))


def claim_for(arrival: Arrival, *, owner: str, lease: timedelta) -> Claim:
    """Return the claim of an arrival."""
    lane = arrival.delivery.lane
    job = NewJob(arrival.head, arrival.message, lane.queue, lane.level)
    return Claim(job, owner, lease, arrival.early)


def begin(
    arrival: Arrival, claimed: Claimed, registry: Registry, *, recorded: bool, now: datetime
) -> Run:
    """Return the run of an arrival that was claimed; one that cannot be read has ended."""
    definition = registry.jobs.get(arrival.head.job)
    policy = registry.policy if definition is None else definition.retry
    if arrival.head.max_attempts is not None:
        policy = replace(policy, max_attempts=arrival.head.max_attempts, stop=None)
    run = Run(  # by position, as it is for every delivery
        arrival.source,
        arrival.delivery,
        arrival.message,
        arrival.head,
        claimed,
        policy,
        definition,
        recorded,
        ZERO if claimed.at is None else now - claimed.at,
    )
    if arrival.unreadable is not None:
        run.outcome = Unrunnable(reason="undecodable", detail=arrival.unreadable)
    return run


def _as_text(header: str) -> str:
    """Return what a store can keep of a header that may hold half a surrogate pair."""
    return header.encode("utf-8", "backslashreplace").decode()


def _fingerprint(body: bytes) -> str | None:
    try:
        return fingerprint(body)
    except ValueError:
        return None
