"""What most calls come to, in one statement that is a transaction by itself.

Each statement does what `brokerq.records` says of the plain case and touches nothing else; what it
left is done in the general way. The tests hold the two to each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import psycopg

from brokerq.errors import BrokerqError
from brokerq.records import Claimed, State
from brokerq.store import Claim, Finish
from brokerq_postgres.database import Database
from brokerq_postgres.errors import IN_THE_WAY
from brokerq_postgres.plain import Batch, Jobs, read_jobs
from brokerq_postgres.topology import LaneRows
from brokerq_postgres.transaction import Rows, Transaction, Values
from brokerq_postgres.wire import (
    bounded,
    escape,
    once,
    scalars,
    some,
    span,
    texts,
    unescape,
    unescape_or_null,
)

_MOST = 4_096
"""A worker holds a few hundred jobs; more than these are of jobs that it has lost."""
_TOGETHER = 250
"""So many jobs are published by one statement; of more, the first are sent at once."""


_NO_RESULT = -1


_Known = tuple[str, Claimed, str | None]
"""Who has claimed a job here, with what answer, and its key: true as long as the fence holds."""


class _NotPlainError(Exception):
    """Among the jobs is one that cannot be published by the statement."""


class Shortcuts:
    """The plain cases of one store, and what it must know of the jobs that it has claimed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._claimed: dict[str, _Known] = {}

    async def publish(self, jobs: Jobs, lanes: LaneRows) -> bool:
        """Publish and record jobs; False: nothing was done, some are not as new as they seem."""
        database = self._database
        try:
            if len(jobs) <= _TOGETHER:
                batch = _read(jobs, lanes)
                values = {**batch.values, "app": database.app}
                await database.fetch("publish_jobs", values)
                database.wakeup.announce(batch.touched)
            else:
                await database.change(lambda t: _publish(t, jobs, lanes), again=IN_THE_WAY)
        except _NotPlainError:
            return False
        except BrokerqError as exc:
            if isinstance(exc.__cause__, psycopg.errors.UniqueViolation):
                return False
            raise
        return True

    async def claim(self, claims: Sequence[Claim]) -> dict[int, Claimed]:
        """Claim what waits and is due; return the answers by position."""
        if not claims:
            return {}
        first: dict[str, int] = {}
        for position, wanted in enumerate(claims):
            first.setdefault(bounded(wanted.job.head.id), position)
        owner, lease = claims[0].owner, claims[0].lease
        if any(wanted.owner != owner or wanted.lease != lease for wanted in claims):
            return {}
        ids = sorted(first)  # for the order of the locks
        ours = [claims[first[job_id]] for job_id in ids]
        heads = [each.job.head for each in ours]
        values = {
            "app": self._database.app,
            "owner": escape(owner),
            "lease": lease.total_seconds(),
            "ids": texts(ids),
            "epochs": scalars(once([head.epoch for head in heads])),
            "attempts": scalars(once([head.attempts for head in heads])),
            "crashes": scalars(once([head.crashes for head in heads])),
            "kept": scalars(once([head.not_before is None for head in heads])),
            "early": scalars(once([each.early for each in ours])),
        }
        rows = await self._database.fetch("take_ready_jobs", values)
        if len(self._claimed) + len(rows) > _MOST:
            self._claimed.clear()
        return self._answers(rows, claims, first)

    def _answers(
        self, rows: Rows, claims: Sequence[Claim], first: Mapping[str, int]
    ) -> dict[int, Claimed]:
        """Return the answers by position, and remember them."""
        answers: dict[int, Claimed] = {}
        # The last one's is when all were claimed, and nearest to when it is compared.
        at = datetime.fromtimestamp(rows[-1][-1], UTC) if rows else None
        for job_id, fence, epoch, attempts, crashes, first_at, expires_at, redrives, key, _ in rows:
            position = first[unescape(job_id)]
            answer = answers[position] = Claimed(
                fence, epoch, attempts, crashes, first_at, expires_at, redrives, None, at
            )
            head, owner = claims[position].job.head, claims[position].owner
            self._claimed[head.id] = owner, answer, unescape_or_null(key)
        return answers

    async def finish(self, finishes: Sequence[Finish]) -> set[int]:
        """Record plain successes of jobs that were claimed here; return their positions."""
        plain: dict[str, tuple[int, Finish, _Known]] = {}
        if len({verdict.holding.id for verdict in finishes}) < len(finishes):
            return set()
        for position, verdict in enumerate(finishes):
            job_id = verdict.holding.id
            known = self._claimed.pop(job_id, None)
            if known is not None and _is_plain(verdict, known[0], known[1].fence):
                plain[job_id] = position, verdict, known
        owners = {owner for _, _, (owner, _, _) in plain.values()}
        if len(owners) != 1:
            return set()
        values = _successes([plain[job_id][1:] for job_id in sorted(plain)])
        rows = await self._database.fetch("succeed_jobs", {**values, "app": self._database.app})
        if len(rows) == len(plain):
            return {position for position, _, _ in plain.values()}
        return {plain[unescape(job_id)][0] for (job_id,) in rows}


async def _publish(transaction: Transaction, jobs: Jobs, lanes: LaneRows) -> None:
    """Put the next jobs together while the server works on those before them."""
    for start in range(0, len(jobs), _TOGETHER):
        batch = _read(jobs[start : start + _TOGETHER], lanes)
        await transaction.send("publish_jobs", {**batch.values, "app": transaction.app})
        for lane, seconds in batch.touched.items():
            transaction.touch(lane, seconds)


def _read(jobs: Jobs, lanes: LaneRows) -> Batch:
    batch = read_jobs(jobs, lanes)
    if batch is None:
        raise _NotPlainError
    return batch


def _is_plain(verdict: Finish, owner: str, fence: int) -> bool:
    holding = verdict.holding
    return (
        verdict.state is State.SUCCEEDED
        and holding.owner == owner
        and holding.fence == fence
        and verdict.failure is None
        and verdict.note is None
        and not verdict.log
        and bounded(holding.id) == holding.id
    )


def _successes(plain: Sequence[tuple[Finish, _Known]]) -> Values:
    verdicts = [verdict for verdict, _ in plain]
    windows = once([verdict.window for verdict in verdicts])
    results = once([verdict.result for verdict in verdicts])
    ttls = once([_NO_RESULT if one.result is None else span(one.result_ttl) for one in verdicts])
    return {
        "owner": escape(verdicts[0].holding.owner),
        "ids": texts([verdict.holding.id for verdict in verdicts]),
        "fences": scalars([verdict.holding.fence for verdict in verdicts]),
        "attempts": scalars(
            once([claimed.attempts + one.attempt for one, (_, claimed, _) in plain])
        ),
        "windows": scalars([span(window) for window in windows]),
        # An array of nothing but NULL has no type for psycopg.
        "results": None if results == [None] else results,
        "result_ttls": scalars(ttls),
        "keys": texts(some([key for _, (_, _, key) in plain])),
    }
