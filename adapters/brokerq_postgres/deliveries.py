"""The statements of a consumer: claim, settle, extend, hand back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brokerq.broker import Ack, Dead, Release, Reschedule
from brokerq.message import Message
from brokerq.sql.lane import Settling
from brokerq_postgres.database import Database
from brokerq_postgres.transaction import Transaction, Values
from brokerq_postgres.wire import headers_text, scalars, span, texts


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who takes and settles: the lane, the number that its messages bear, its lease in seconds."""

    lane: int
    number: int
    lease: float


async def settle(database: Database, holder: Holder, settling: Sequence[Settling]) -> set[int]:
    """Carry the verdicts out; return the row ids of those that were."""
    ordered = [one.order_key for one in settling if one.order_key is not None]
    if ordered or any(not isinstance(one.verdict, Ack) for one in settling):
        return await database.change(
            lambda transaction: _settle(transaction, holder, settling, ordered)
        )
    # If a crash of the server undoes it, the message comes again, and its record says so.
    values = {**_ids(settling, holder), "commit": "off"}
    return {row[0] for row in await database.fetch("remove_messages", values)}


async def _settle(
    transaction: Transaction, holder: Holder, settling: Sequence[Settling], ordered: list[str]
) -> set[int]:
    order_keys = {"order_keys": texts(ordered)}
    if ordered:
        await transaction.send("lock_order_keys", order_keys)
    sent = [await transaction.send(name, values) for name, values in _statements(holder, settling)]
    unblocked = await transaction.send("unblock_messages", order_keys) if ordered else None
    done: set[int] = set()
    for cursor in sent:
        for id_, *seconds in await cursor.fetchall():
            done.add(id_)
            for due in seconds:
                transaction.touch(holder.lane, max(0.0, due))
    if unblocked is not None:
        for lane, due in await unblocked.fetchall():
            transaction.touch(lane, max(0.0, due))
    return done


def _statements(holder: Holder, settling: Sequence[Settling]) -> list[tuple[str, Values]]:
    """Return one statement for each kind of verdict."""
    acked: list[Settling] = []
    returned: list[tuple[Settling, int | None]] = []
    replaced: list[tuple[Settling, int, Message]] = []
    buried: list[tuple[Settling, Message]] = []
    for one in settling:
        match one.verdict:
            case Ack():
                acked.append(one)
            case Release(delay=delay):  # without a delay it keeps its place
                returned.append((one, span(delay) if delay else None))
            case Reschedule(delay=delay, message=copy):
                if copy is None:
                    returned.append((one, span(delay)))
                else:
                    replaced.append((one, span(delay), copy))
            case Dead(message=letter):
                buried.append((one, letter))
    statements: list[tuple[str, Values]] = [
        ("remove_messages", {**_ids(acked, holder), "commit": "on"}),
        ("return_messages", _returning(returned, holder)),
        ("replace_messages", _replacing(replaced, holder)),
        ("bury_messages", _burying(buried, holder)),
    ]
    wanted = (acked, returned, replaced, buried)
    return [each for each, group in zip(statements, wanted, strict=True) if group]


def _returning(returned: Sequence[tuple[Settling, int | None]], holder: Holder) -> Values:
    delays = scalars(delay for _, delay in returned)
    return {**_ids([one for one, _ in returned], holder), "delays": delays}


def _ids(settling: Sequence[Settling], holder: Holder) -> dict[str, object]:
    return {"ids": scalars([one.id for one in settling]), "holder": holder.number}


def _replacing(replaced: Sequence[tuple[Settling, int, Message]], holder: Holder) -> Values:
    return {
        **_ids([one for one, _, _ in replaced], holder),
        "delays": scalars(delay for _, delay, _ in replaced),
        "headers": texts([headers_text(copy.headers) for _, _, copy in replaced]),
        "bodies": [copy.body for _, _, copy in replaced],
    }


def _burying(buried: Sequence[tuple[Settling, Message]], holder: Holder) -> Values:
    letters = [letter for _, letter in buried]
    return {
        **_ids([one for one, _ in buried], holder),
        "job_ids": texts([letter.headers.get("bq-id") for letter in letters]),
        "epochs": texts([letter.headers.get("bq-epoch", "0") for letter in letters]),
        "headers": texts([headers_text(letter.headers) for letter in letters]),
        "bodies": [letter.body for letter in letters],
    }


async def extend(database: Database, holder: Holder, ids: Sequence[int]) -> set[int]:
    """Begin the leases anew; return the row ids of those that are still held."""
    values = {"ids": scalars(ids), "holder": holder.number, "lease": holder.lease}
    return {row[0] for row in await database.fetch("extend_leases", values)}


async def hand_back(database: Database, holder: Holder, ids: Sequence[int]) -> None:
    """Give back what was not looked at: it keeps its place, and the delivery does not count."""
    values = {"ids": scalars(ids), "holder": holder.number}
    if await database.fetch("hand_back_messages", values):
        database.wakeup.announce({holder.lane: 0.0})
