"""Taking the keys of jobs that are published as they are recorded."""

from __future__ import annotations

from collections.abc import Sequence

from brokerq.keys import take_in_turn
from brokerq.records import ReserveAnswer, Reserved
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
        answers = take_in_turn(jobs, ledger.keys.get, ledger.records.get, now=ledger.now)
        return answers, [n for n, answer in enumerate(answers) if isinstance(answer, Reserved)]
    answers = [Reserved(id=job.head.id) for job in jobs]
    return answers, list(range(len(answers)))
