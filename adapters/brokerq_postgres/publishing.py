"""Publishing and recording in one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from brokerq.keys import take_in_turn
from brokerq.records import ReserveAnswer, Reserved
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
    answers = take_in_turn(jobs, ledger.holder, ledger.records.get, now=ledger.now)
    reserved = [n for n, answer in enumerate(answers) if isinstance(answer, Reserved)]
    return ledger, answers, reserved
