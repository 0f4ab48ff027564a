"""The statements of a consumer: claim, settle, extend, hand back; each within a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from brokerq.broker import Ack, Dead, Release, Reschedule
from brokerq.sql.lane import Claimed, ClaimedRow, Settling
from brokerq_sqlite.queries import load
from brokerq_sqlite.wire import headers_text, numbers, span, texts
from brokerq_sqlite.writer import Transaction

_CLAIM = load("claim_messages")
_LAPSE = load("lapse_leases")
_NEXT_EVENT = load("find_next_event")
_COUNT_HELD = load("count_held_messages")
_REMOVE = load("remove_messages")
_RELEASE = load("release_message")
_REPLACE = load("replace_message")
_BURY = load("bury_message")
_HAND_BACK = load("hand_back_messages")
_EXTEND = load("extend_leases")
_UNBLOCK = load("unblock_messages")


class Claim(NamedTuple):
    """What a consumer wants; `until` is when its leases end, `now` in microseconds."""

    lane: int
    holder: int
    limit: int
    now: int
    mono: float
    until: float


class NextEvent(NamedTuple):
    """When something may be due (microseconds), or lapse (seconds)."""

    due: int | None
    lapse: float | None


def claim(transaction: Transaction, wanted: Claim) -> Claimed[NextEvent]:
    """Take messages of the lane, in order; what is held for too long is free again."""
    db = transaction.db
    release_lapsed(transaction, lane=wanted.lane, mono=wanted.mono)
    rows: list[ClaimedRow] = db.execute(
        _CLAIM,
        {
            "holder": wanted.holder,
            "until": wanted.until,
            "lane": wanted.lane,
            "now": wanted.now,
            "limit": wanted.limit,
        },
    ).fetchall()
    if rows:
        rows.sort()  # SQLite returns them in no particular order; ids are unique
        return rows, None
    return rows, NextEvent(*db.execute(_NEXT_EVENT, {"lane": wanted.lane}).fetchone())


def release_lapsed(transaction: Transaction, *, lane: int, mono: float) -> None:
    """Free what is held for too long."""
    transaction.db.execute(_LAPSE, (lane, mono))


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who settles: the lane, the number that its messages bear, and the time."""

    lane: int
    number: int
    now: int


def settle(transaction: Transaction, holder: Holder, settling: Sequence[Settling]) -> set[int]:
    """Carry the verdicts out; return the row ids of those that were."""
    done: set[int] = set()
    acked = [one.id for one in settling if isinstance(one.verdict, Ack)]
    if acked:
        done.update(_remove(transaction, holder, acked))
    if len(acked) < len(settling):
        for one in settling:
            if not isinstance(one.verdict, Ack) and _carry_out(transaction, holder, one):
                done.add(one.id)
    freed = [
        one.order_key
        for one in settling
        if one.order_key is not None and one.id in done and isinstance(one.verdict, (Ack, Dead))
    ]
    if freed:
        unblock(transaction, freed)
    return done


def _remove(transaction: Transaction, holder: Holder, ids: Sequence[int]) -> Sequence[int]:
    """Remove what is still held; return the row ids.

    Mostly that is all of it, and to ask how many takes less than to be told each.
    """
    db, named = transaction.db, (numbers(ids), holder.number)
    (held,) = db.execute(_COUNT_HELD, named).fetchone()
    if held == len(ids):
        db.execute(_REMOVE, named)
        return ids
    return [row[0] for row in db.execute(f"{_REMOVE} RETURNING id", named).fetchall()]


def unblock(transaction: Transaction, order_keys: list[str]) -> None:
    """Let the next one go of each ordering key, the one before it being gone."""
    rows = transaction.db.execute(_UNBLOCK, (texts(order_keys),)).fetchall()
    for lane, due in rows:
        transaction.touch(lane, due)


def _carry_out(transaction: Transaction, holder: Holder, one: Settling) -> bool:
    values: dict[str, object] = {"id": one.id, "holder": holder.number}
    match one.verdict:
        case Release(delay=delay):
            statement = _RELEASE  # without a delay it keeps its place
            values["due"] = holder.now + span(delay) if delay else None
        case Reschedule(delay=delay, message=None):
            statement = _RELEASE
            values["due"] = holder.now + span(delay)
        case Reschedule(delay=delay, message=message) if message is not None:
            statement = _REPLACE
            values["due"] = holder.now + span(delay)
            values |= {"headers": headers_text(message.headers), "body": message.body}
        case Dead(message=message):
            statement = _BURY
            values |= {"now": holder.now, "job_id": message.headers.get("bq-id")}
            values |= {"headers": headers_text(message.headers), "body": message.body}
        case other:
            raise TypeError(f"not a verdict that is carried out one by one: {other!r}")
    row = transaction.db.execute(statement, values).fetchone()
    if row is None:
        return False
    if not isinstance(one.verdict, Dead):
        transaction.touch(holder.lane, row[0])
    return True


def extend(transaction: Transaction, holder: int, ids: Sequence[int], until: float) -> set[int]:
    """Begin the leases anew; return the row ids of those that are still held."""
    rows = transaction.db.execute(_EXTEND, (until, numbers(ids), holder)).fetchall()
    return {row[0] for row in rows}


def hand_back(transaction: Transaction, lane: int, holder: int, ids: Sequence[int]) -> None:
    """Give back what was not looked at: it keeps its place, and the delivery does not count."""
    for (due,) in transaction.db.execute(_HAND_BACK, (numbers(ids), holder)).fetchall():
        transaction.touch(lane, due)
