"""Publishing and recording in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from brokerq.broker import Outgoing
from brokerq.errors import ConnectionLostError, PublishError, StorageError
from brokerq.records import ReserveAnswer
from brokerq.store import NewJob
from brokerq_sqlite import outgoing
from brokerq_sqlite.errors import OutcomeUnknownError
from brokerq_sqlite.jobs import enqueue
from brokerq_sqlite.keys import take_keys
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
        answers, taken = take_keys(ledger, self._jobs)
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
