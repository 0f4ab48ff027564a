"""Taking the keys of jobs that are published as they are recorded."""

from __future__ import annotations

from collections.abc import Sequence

from brokerq import records as rules
from brokerq.broker import Outgoing
from brokerq.duration import ZERO
from brokerq.records import KeyRecord, Now, Pending, Record, ReserveAnswer, Reserved
from brokerq.store import NewJob
from brokerq_memory.jobs import key_holder
from brokerq_memory.ledger import Ledger

Pairs = Sequence[tuple[NewJob, Outgoing]]


def take_keys(ledger: Ledger, jobs: Pairs, now: Now) -> tuple[list[ReserveAnswer], Pairs]:
    """Answer each job as if those before it were published; return those to publish, too.

    Nothing is written yet.
    """
    answers: list[ReserveAnswer] = []
    taken: dict[str, tuple[KeyRecord, Record]] = {}
    for job, _ in jobs:
        head = job.head
        key = rules.scoped_key(head)
        if key is None:
            answers.append(Reserved(id=head.id))
            continue
        holder, held_by = taken.get(key) or key_holder(ledger, job)
        answer, record = rules.reserve(holder, held_by, head, owner="", lease=ZERO, now=now)
        if isinstance(answer, Reserved) and answer.id != head.id:
            answer = Pending(id=answer.id, wait=ZERO)
        elif record is not None:
            held_by = rules.enqueue(record, head, now=now)
            if held_by is not None:
                own = KeyRecord(key=key, job_id=head.id, fingerprint=head.fingerprint)
                taken[key] = own, held_by
        answers.append(answer)
    pairs = zip(jobs, answers, strict=True)
    return answers, [pair for pair, answer in pairs if isinstance(answer, Reserved)]
