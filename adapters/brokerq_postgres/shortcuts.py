"""What most calls come to, in one statement that is a transaction by itself.

Each statement does what `brokerq.records` says of the plain case and touches nothing else; what it
left is done in the general way. The tests hold the two to each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from brokerq.errors import BrokerqError
from brokerq.records import Claimed, Record, State
from brokerq.store import Claim, Finish, NewJob
from brokerq_postgres import outgoing
from brokerq_postgres.database import Database
from brokerq_postgres.outgoing import MessageRow
from brokerq_postgres.transaction import Values
from brokerq_postgres.wire import (
    bounded,
    escape,
    scalars,
    span,
    texts,
    unescape,
    unescape_or_null,
    write_json,
)

_MOST = 4_096
"""A worker holds a few hundred jobs; more than these are of jobs that it has lost."""


class Shortcuts:
    """The plain cases of one store, and what it must know of the jobs that it has claimed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._claimed: dict[str, Record] = {}

    async def publish(self, jobs: Sequence[NewJob], rows: Sequence[MessageRow]) -> bool:
        """Publish and record jobs; False: nothing was done, some are not as new as they seem."""
        if outgoing.is_ordered(rows) or any(job.head.key is not None for job in jobs):
            return False
        values = {**_records(jobs), **outgoing.columns(rows), "app": self._database.app}
        try:
            await self._database.fetch("publish_jobs", values)
        except BrokerqError as exc:
            if isinstance(exc.__cause__, psycopg.errors.UniqueViolation):
                return False
            raise
        self._database.wakeup.announce(outgoing.touched(rows))
        return True

    async def claim(self, claims: Sequence[Claim]) -> dict[int, Claimed]:
        """Claim what waits and is due; return the answers by position."""
        first: dict[str, int] = {}
        for position, wanted in enumerate(claims):
            first.setdefault(bounded(wanted.job.head.id), position)
        if len({(wanted.owner, wanted.lease) for wanted in claims}) != 1:
            return {}
        ids = sorted(first)  # for the order of the locks
        heads = [claims[first[job_id]].job.head for job_id in ids]
        values = {
            "app": self._database.app,
            "owner": escape(claims[0].owner),
            "lease": claims[0].lease.total_seconds(),
            "ids": texts(ids),
            "epochs": scalars(head.epoch for head in heads),
            "attempts": scalars(head.attempts for head in heads),
            "crashes": scalars(head.crashes for head in heads),
            "kept": scalars(head.not_before is None for head in heads),
        }
        answers: dict[int, Claimed] = {}
        for row in await self._database.fetch("take_ready_jobs", values):
            job_id, fence, epoch, attempts, crashes, first_at, expires_at, redrives, key, at = row
            answer = Claimed(fence, epoch, attempts, crashes, first_at, expires_at, redrives, at=at)
            position = first[unescape(job_id)]
            answers[position] = answer
            self._remember(claims[position], answer, unescape_or_null(key))
        return answers

    def _remember(self, claim: Claim, answer: Claimed, key: str | None) -> None:
        if len(self._claimed) >= _MOST:
            self._claimed.clear()
        job_id = claim.job.head.id
        self._claimed[job_id] = Record(  # by position, as it is for every delivery
            job_id,
            State.RUNNING,
            answer.first_at,
            answer.epoch,
            True,  # noqa: FBT003
            answer.attempts,
            answer.crashes,
            answer.fence,
            claim.owner,
            key=key,
        )

    async def finish(self, finishes: Sequence[Finish]) -> set[int]:
        """Record plain successes of jobs that were claimed here; return their positions."""
        if len({verdict.holding.id for verdict in finishes}) < len(finishes):
            return set()
        plain: dict[str, tuple[int, Finish, Record]] = {}
        for position, verdict in enumerate(finishes):
            record = self._claimed.pop(verdict.holding.id, None)
            if record is not None and _is_plain(verdict, record):
                plain[verdict.holding.id] = position, verdict, record
        if not plain or len({record.owner for _, _, record in plain.values()}) != 1:
            return set()
        values = _successes([plain[job_id][1:] for job_id in sorted(plain)])
        rows = await self._database.fetch("succeed_jobs", {**values, "app": self._database.app})
        return {plain[unescape(job_id)][0] for (job_id,) in rows}


def _is_plain(verdict: Finish, record: Record) -> bool:
    holding = verdict.holding
    return (
        verdict.state == State.SUCCEEDED
        and (holding.owner, holding.fence) == (record.owner, record.fence)
        and verdict.failure is None
        and verdict.note is None
        and not verdict.log
        and bounded(holding.id) == holding.id
    )


def _successes(plain: Sequence[tuple[Finish, Record]]) -> Values:
    verdicts = [verdict for verdict, _ in plain]
    results = [verdict.result for verdict in verdicts]
    return {
        "owner": escape(verdicts[0].holding.owner),
        "ids": texts([verdict.holding.id for verdict in verdicts]),
        "fences": scalars(verdict.holding.fence for verdict in verdicts),
        "attempts": scalars(record.attempts + verdict.attempt for verdict, record in plain),
        "windows": scalars(span(verdict.window) for verdict in verdicts),
        "results": results if any(result is not None for result in results) else None,
        "result_ttls": scalars(
            None if verdict.result is None else span(verdict.result_ttl) for verdict in verdicts
        ),
        "keys": texts([record.key for _, record in plain]),
    }


def _records(jobs: Sequence[NewJob]) -> dict[str, object]:
    heads = [job.head for job in jobs]
    return {
        "ids": texts([bounded(head.id) for head in heads]),
        "first_ats": scalars(head.first_at for head in heads),
        "epochs": scalars(head.epoch for head in heads),
        "attempts": scalars(head.attempts for head in heads),
        "crashes": scalars(head.crashes for head in heads),
        "not_befores": scalars(head.not_before for head in heads),
        "waits": scalars(span(job.delay) if job.delay else None for job in jobs),
        "expires_ats": scalars(head.expires_at for head in heads),
        "redrives": scalars(head.redrives for head in heads),
        "jobs": texts([head.job for head in heads]),
        "queues": texts([job.queue for job in jobs]),
        "levels": texts([job.level for job in jobs]),
        "tags": texts([write_json(head.tags) if head.tags else None for head in heads]),
        "correlations": texts([head.correlation for head in heads]),
        "causes": texts([head.cause for head in heads]),
    }
