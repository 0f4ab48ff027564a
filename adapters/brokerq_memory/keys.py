"""Taking the keys of jobs that are published as they are recorded."""

from __future__ import annotations

from collections.abc import Sequence

from brokerq.broker import Outgoing
from brokerq.keys import take_in_turn
from brokerq.records import Now, ReserveAnswer, Reserved
from brokerq.store import NewJob
from brokerq_memory.ledger import Ledger

Pairs = Sequence[tuple[NewJob, Outgoing]]


def take_keys(ledger: Ledger, jobs: Pairs, now: Now) -> tuple[list[ReserveAnswer], Pairs]:
    """Answer each job as if those before it were published; return those to publish, too.

    Nothing is written yet.
    """
    answers = take_in_turn((job for job, _ in jobs), ledger.keys.get, ledger.record, now=now)
    pairs = zip(jobs, answers, strict=True)
    return answers, [pair for pair, answer in pairs if isinstance(answer, Reserved)]
