"""Taking the keys of jobs that are published as they are recorded."""

from __future__ import annotations

from collections.abc import Sequence

from brokerq import records as rules
from brokerq.duration import ZERO
from brokerq.records import KeyRecord, Pending, Record, ReserveAnswer, Reserved
from brokerq.store import NewJob
from brokerq_sqlite.jobs import load_holders
from brokerq_sqlite.ledger import Ledger


def take_keys(ledger: Ledger, jobs: Sequence[NewJob]) -> tuple[list[ReserveAnswer], list[int]]:
    """Answer each job as if those before it were published; return the positions of those, too.

    Nothing is written yet.
    """
    answers: list[ReserveAnswer]
    if any(job.head.key is not None for job in jobs):
        load_holders(ledger, jobs)
        answers = _answer(ledger, jobs)
        return answers, [n for n, answer in enumerate(answers) if isinstance(answer, Reserved)]
    answers = [Reserved(id=job.head.id) for job in jobs]
    return answers, list(range(len(answers)))


def _answer(ledger: Ledger, jobs: Sequence[NewJob]) -> list[ReserveAnswer]:
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
    return answers


def _find_holder(ledger: Ledger, key: str) -> tuple[KeyRecord | None, Record | None]:
    holder = ledger.keys.get(key)
    return holder, None if holder is None else ledger.records.get(holder.job_id)
