"""Publishing and recording in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from brokerq import records as rules
from brokerq.broker import Outgoing
from brokerq.duration import ZERO
from brokerq.errors import ConnectionLostError, PublishError, StorageError
from brokerq.records import KeyRecord, Pending, Record, ReserveAnswer, Reserved
from brokerq.store import NewJob
from brokerq_sqlite import outgoing
from brokerq_sqlite.errors import OutcomeUnknownError
from brokerq_sqlite.jobs import enqueue, load_holders
from brokerq_sqlite.ledger import Ledger
from brokerq_sqlite.outgoing import Batch


class Recording:
    """A batch of jobs that are published as they are recorded; made before the transaction.

    Raises `PublishError` if a lane is not declared.
    """

    def __init__(self, jobs: Sequence[tuple[NewJob, Outgoing]], batch: Batch) -> None:
        self._jobs = [job for job, _ in jobs]
        messages = [message for _, message in jobs]
        if batch.undeclared:
            refusal = outgoing.refusal(messages, batch.undeclared)
            raise PublishError(refusal, failed=range(len(messages)))
        self._rows, self._order_keys = batch.rows, batch.order_keys
        # Mostly the message sent is the one recorded; then its headers are written once.
        self._same = all(job.message is message.message for job, message in jobs)

    def run(self, ledger: Ledger) -> list[ReserveAnswer]:
        """Take the keys, put the messages in, and record the jobs."""
        answers: list[ReserveAnswer]
        if any(job.head.key is not None for job in self._jobs):
            load_holders(ledger, self._jobs)
            answers = _take_keys(ledger, self._jobs)
            taken = [n for n, answer in enumerate(answers) if isinstance(answer, Reserved)]
        else:
            answers = [Reserved(id=job.head.id) for job in self._jobs]
            taken = list(range(len(answers)))
        rows = [self._rows[n] for n in taken]
        outgoing.add(rows, [self._order_keys[n] for n in taken], ledger.transaction)
        headers = [row[3] for row in rows] if self._same else None
        enqueue(ledger, [self._jobs[n] for n in taken], headers)
        return answers

    async def confirm(self, writing: Awaitable[list[ReserveAnswer]]) -> list[ReserveAnswer]:
        """Wait for the transaction. Raises `PublishError`."""
        try:
            return await writing
        except (ConnectionLostError, StorageError) as exc:
            unknown = isinstance(exc, OutcomeUnknownError)
            raise outgoing.failed(self._jobs, exc, unknown=unknown) from exc


def _take_keys(ledger: Ledger, jobs: Sequence[NewJob]) -> list[ReserveAnswer]:
    """Answer each job as if those before it were published; nothing is written yet."""
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
