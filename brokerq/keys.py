"""Taking the keys of jobs that are published as they are recorded. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from brokerq import records as rules
from brokerq.duration import ZERO
from brokerq.records import KeyRecord, Now, Pending, Record, ReserveAnswer, Reserved
from brokerq.store import NewJob


def take_in_turn(
    jobs: Iterable[NewJob],
    find_holder: Callable[[str], KeyRecord | None],
    find_record: Callable[[str], Record | None],
    *,
    now: Now,
) -> list[ReserveAnswer]:
    """Answer each job as if those before it were published; `Reserved` ones are to be published.

    Another job's reservation that has lapsed is not taken over here: the answer is `Pending` for no
    time at all, and the key is to be reserved by itself.
    """
    answers: list[ReserveAnswer] = []
    taken: dict[str, tuple[KeyRecord, Record]] = {}
    for job in jobs:
        head = job.head
        key = rules.scoped_key(head)
        if key is None:
            answers.append(Reserved(id=head.id))
            continue
        holder, held_by = taken.get(key, (None, None))
        if holder is None:
            holder = find_holder(key)
            held_by = find_record(head.id if holder is None else holder.job_id)
        answer, record = rules.reserve(holder, held_by, head, owner="", lease=ZERO, now=now)
        if isinstance(answer, Reserved) and answer.id != head.id:
            answer = Pending(id=answer.id, wait=ZERO)
        elif record is not None:
            queued = rules.enqueue(record, head, now=now)
            if queued is not None:
                own = KeyRecord(key=key, job_id=head.id, fingerprint=head.fingerprint)
                taken[key] = own, queued
        answers.append(answer)
    return answers
