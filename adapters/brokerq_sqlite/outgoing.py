"""Messages on their way into the file: what is refused, and the rows of the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from brokerq.broker import Lane, Outgoing
from brokerq.errors import CapabilityError, PublishError
from brokerq_sqlite.queries import load
from brokerq_sqlite.topology import LaneRow
from brokerq_sqlite.wire import check_size, headers_text, span
from brokerq_sqlite.writer import Transaction

_ADD = load("add_message")
_ADD_ORDERED = load("add_ordered_message")

# lane, due_at, job_id, headers, body
MessageRow = tuple[int, int, str, str, bytes]


def check(messages: Sequence[Outgoing], lanes: Mapping[Lane, LaneRow]) -> list[int]:
    """Return the positions of those whose lane is not declared.

    Raises `BodyTooLargeError` and `CapabilityError`.
    """
    undeclared: list[int] = []
    for position, outgoing in enumerate(messages):
        check_size(position, outgoing)
        row = lanes.get(outgoing.lane)
        if row is None:
            undeclared.append(position)
        elif outgoing.order is not None and not row.ordered:
            raise CapabilityError(
                f"message {position} ({outgoing.id}) has an ordering key, but queue "
                f"{outgoing.lane.queue!r} is not ordered: declare it with ordered=True"
            )
    return undeclared


def refusal(messages: Sequence[Outgoing], undeclared: Collection[int]) -> str:
    """Say which lanes nobody declared."""
    lanes = {messages[position].lane: None for position in undeclared}
    names = ", ".join(f"{lane.queue!r} with level {lane.level!r}" for lane in lanes)
    return f"not declared: queue {names}; declare it first"


def rows(
    messages: Sequence[Outgoing], lanes: Mapping[Lane, LaneRow], now: int
) -> tuple[list[MessageRow], list[str | None]]:
    """Return the rows of messages whose lanes are declared, and their ordering keys."""
    made: list[MessageRow] = []
    order_keys: list[str | None] = []
    for outgoing in messages:
        row = lanes[outgoing.lane]
        message = outgoing.message
        due = now + span(outgoing.delay) if outgoing.delay else now
        made.append((row.id, due, outgoing.id, headers_text(message.headers), message.body))
        order = outgoing.order
        order_keys.append(None if order is None else f"{row.queue}/{order}")
    return made, order_keys


def add(
    transaction: Transaction, made: Sequence[MessageRow], order_keys: Sequence[str | None]
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
    for row in made:
        transaction.touch(row[0], row[1])


def failed(messages: Sequence[object], exc: Exception, *, unknown: bool) -> PublishError:
    """Return the error of a whole batch."""
    every = range(len(messages))
    if unknown:
        return PublishError(f"nobody knows whether this was published: {exc}", unknown=every)
    return PublishError(f"nothing was published: {exc}", failed=every)
