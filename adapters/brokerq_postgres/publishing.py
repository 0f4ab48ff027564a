"""Publishing and recording in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from brokerq import records as rules
from brokerq.duration import ZERO
from brokerq.records import KeyRecord, Pending, Record, ReserveAnswer, Reserved
from brokerq.store import NewJob
from brokerq_postgres import outgoing
from brokerq_postgres.jobs import enqueue_loaded
from brokerq_postgres.ledger import Ledger
from brokerq_postgres.outgoing import MessageRow
from brokerq_postgres.transaction import Transaction


async def publish(
    transaction: Transaction, jobs: Sequence[NewJob], rows: Sequence[MessageRow]
) -> list[ReserveAnswer]:
    """Take the keys, put the messages in, and record the jobs."""
    ledger, answers, taken = await take(transaction, jobs)
    await outgoing.add([rows[position] for position in taken], transaction)
    enqueue_loaded(ledger, [jobs[position] for position in taken])
    await ledger.flush()
    return answers


async def take(
    transaction: Transaction, jobs: Sequence[NewJob]
) -> tuple[Ledger, list[ReserveAnswer], list[int]]:
    """Answer each job as if those before it were published; return who got what it asked for."""
    ledger = Ledger(transaction)
    await ledger.load_holders(jobs)
    answers: list[ReserveAnswer] = []
    taken: dict[str, tuple[KeyRecord, Record]] = {}
    for job in jobs:
        head = job.head
        key = rules.scoped_key(head)
        if key is None:
            answers.append(Reserved(id=head.id))
            continue
        holder, held_by = taken.get(key) or _find_holder(ledger, key)
        answer, record = rules.reserve(holder, held_by, head, owner="", lease=ZERO, now=ledger.now)
        if isinstance(answer, Reserved) and answer.id != head.id:
            answer = Pending(id=answer.id, wait=ZERO)
        elif record is not None:
            held_by = rules.enqueue(record, head, now=ledger.now)
            if held_by is not None:
                own = KeyRecord(key=key, job_id=head.id, fingerprint=head.fingerprint)
                taken[key] = own, held_by
        answers.append(answer)
    reserved = [n for n, answer in enumerate(answers) if isinstance(answer, Reserved)]
    return ledger, answers, reserved


def _find_holder(ledger: Ledger, key: str) -> tuple[KeyRecord | None, Record | None]:
    holder = ledger.holder(key)
    return holder, None if holder is None else ledger.records.get(holder.job_id)
