"""Messages on their way into the database: what is refused, and the rows of the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from brokerq.broker import Outgoing
from brokerq.errors import CapabilityError, PublishError
from brokerq_postgres.errors import OutcomeUnknownError
from brokerq_postgres.topology import LaneRows
from brokerq_postgres.transaction import Transaction, Values
from brokerq_postgres.wire import MAX_BODY, bounded, check_size, headers_text, scalars, span, texts


class MessageRow(NamedTuple):
    """A message as it is put into the database; `delay` is in microseconds."""

    lane: int
    delay: int
    tenant: str
    order_key: str | None
    job_id: str
    headers: str
    body: bytes


class Batch(NamedTuple):
    """Messages as they are put into the database.

    Attributes:
        undeclared: Positions of the messages that have no row: nobody declared their lanes.
    """

    rows: list[MessageRow]
    undeclared: list[int]


def prepare(messages: Sequence[Outgoing], lanes: LaneRows) -> Batch:
    """Make the rows. Raises `BodyTooLargeError` and `CapabilityError`."""
    made: list[MessageRow] = []
    undeclared: list[int] = []
    for position, outgoing in enumerate(messages):
        message, lane, order = outgoing.message, outgoing.lane, outgoing.order
        headers = headers_text(message.headers)
        # As JSON the headers are never shorter; most messages need not be counted exactly.
        if len(headers) + len(message.body) > MAX_BODY:
            check_size(position, outgoing)
        row = lanes.get((lane.queue, lane.level))
        if row is None:
            undeclared.append(position)
            continue
        if order is not None and not row.ordered:
            raise CapabilityError(
                f"message {position} ({outgoing.id}) has an ordering key, but queue "
                f"{lane.queue!r} is not ordered: declare it with ordered=True"
            )
        made.append(
            MessageRow(
                lane=row.id,
                delay=span(outgoing.delay) if outgoing.delay else 0,
                tenant=bounded(outgoing.tenant or ""),
                order_key=None if order is None else bounded(f"{row.queue}/{order}"),
                job_id=outgoing.id,
                headers=headers,
                body=message.body,
            )
        )
    return Batch(rows=made, undeclared=undeclared)


def refusal(messages: Sequence[Outgoing], undeclared: Collection[int]) -> str:
    """Say which lanes nobody declared."""
    lanes = {messages[position].lane: None for position in undeclared}
    names = ", ".join(f"{lane.queue!r} with level {lane.level!r}" for lane in lanes)
    return f"not declared: queue {names}; declare it first"


def columns(rows: Sequence[MessageRow]) -> Values:
    """Return the rows as the statements take them: an array for each column."""
    lanes, delays, tenants, order_keys, job_ids, headers, bodies = zip(*rows, strict=True)
    return {
        "lanes": scalars(lanes),
        "delays": scalars(delays),
        "tenants": texts(tenants),
        "order_keys": texts(order_keys),
        "job_ids": texts(job_ids),
        "headers": texts(headers),
        "bodies": list(bodies),
    }


def is_ordered(rows: Sequence[MessageRow]) -> bool:
    """Tell whether any has an ordering key."""
    return any(row.order_key is not None for row in rows)


async def add(rows: Sequence[MessageRow], transaction: Transaction) -> None:
    """Put the rows into the database, in order."""
    if not rows:
        return
    values = columns(rows)
    if is_ordered(rows):
        transaction.require_latest()
        # Who publishes under a key, or ends a message of it, does so alone: else each of two could
        # take its own for the first.
        await transaction.send("lock_order_keys", {"order_keys": values["order_keys"]})
        await transaction.send("add_ordered_messages", values)
    else:
        await transaction.send("add_messages", values)
    for lane, seconds in touched(rows).items():
        transaction.touch(lane, seconds)


def touched(rows: Sequence[MessageRow]) -> dict[int, float]:
    """Return in how many seconds there is something, by lane."""
    found: dict[int, float] = {}
    for row in rows:
        seconds = row.delay / 1e6
        if seconds < found.get(row.lane, seconds + 1):
            found[row.lane] = seconds
    return found


def failed(messages: Sequence[object], exc: Exception) -> PublishError:
    """Return the error of a whole batch."""
    every = range(len(messages))
    if isinstance(exc, OutcomeUnknownError):
        return PublishError(f"nobody knows whether this was published: {exc}", unknown=every)
    return PublishError(f"nothing was published: {exc}", failed=every)
