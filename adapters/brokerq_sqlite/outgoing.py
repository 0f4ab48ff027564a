"""Messages on their way into the file: what is refused, and the rows of the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from brokerq.broker import Outgoing
from brokerq.errors import CapabilityError, PublishError
from brokerq_sqlite.queries import load
from brokerq_sqlite.topology import LaneRows
from brokerq_sqlite.wire import MAX_BODY, check_size, headers_text, span
from brokerq_sqlite.writer import Transaction

_ADD = load("add_message")
_ADD_ORDERED = load("add_ordered_message")

# lane, due_at, job_id, headers, body
MessageRow = tuple[int, int, str, str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Messages as they are put into the file.

    Attributes:
        order_keys: Of the rows; scoped to the queue.
        undeclared: Positions of the messages that have no row: nobody declared their lanes.
    """

    rows: list[MessageRow]
    order_keys: list[str | None]
    undeclared: list[int]


def prepare(messages: Sequence[Outgoing], lanes: LaneRows, now: int) -> Batch:
    """Make the rows. Raises `BodyTooLargeError` and `CapabilityError`."""
    made: list[MessageRow] = []
    order_keys: list[str | None] = []
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
        due = now + span(outgoing.delay) if outgoing.delay else now
        made.append((row.id, due, outgoing.id, headers, message.body))
        order_keys.append(None if order is None else f"{row.queue}/{order}")
    return Batch(rows=made, order_keys=order_keys, undeclared=undeclared)


def refusal(messages: Sequence[Outgoing], undeclared: Collection[int]) -> str:
    """Say which lanes nobody declared."""
    lanes = {messages[position].lane: None for position in undeclared}
    names = ", ".join(f"{lane.queue!r} with level {lane.level!r}" for lane in lanes)
    return f"not declared: queue {names}; declare it first"


def add(
    made: Sequence[MessageRow], order_keys: Sequence[str | None], transaction: Transaction
) -> None:
    """Put the rows into the file, in order."""
    db = transaction.db
    if not any(order_keys):
        db.executemany(_ADD, made)
    else:
        for row, order_key in zip(made, order_keys, strict=True):
            if order_key is None:
                db.execute(_ADD, row)
            else:
                lane, due, job_id, headers, body = row
                values = {"lane": lane, "due": due, "job_id": job_id, "order_key": order_key}
                db.execute(_ADD_ORDERED, values | {"headers": headers, "body": body})
    for lane, due in {row[:2] for row in made}:
        transaction.touch(lane, due)


def failed(messages: Sequence[object], exc: Exception, *, unknown: bool) -> PublishError:
    """Return the error of a whole batch."""
    every = range(len(messages))
    if unknown:
        return PublishError(f"nobody knows whether this was published: {exc}", unknown=every)
    return PublishError(f"nothing was published: {exc}", failed=every)
