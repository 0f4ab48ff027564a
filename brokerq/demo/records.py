"""What brokerq says about a run's jobs, read in pages."""

from __future__ import annotations

from collections.abc import Sequence

from brokerq import BrokerQ
from brokerq.catalogue import Letter, LetterFilter, LetterState
from brokerq.record import BURIED, ENDED, State
from brokerq.store import JobFilter, JobView

PAGE = 500
LIVE = frozenset(State) - ENDED


async def anything_left(bq: BrokerQ, run: str) -> bool:
    """Tell whether a job of the run has not ended."""
    return bool(await bq.jobs.search(JobFilter(correlation=run, states=LIVE), limit=1))


async def read_records(bq: BrokerQ, run: str) -> list[JobView]:
    """Return all records of the run."""
    wanted = JobFilter(correlation=run)
    found: list[JobView] = []
    while page := await bq.jobs.search(wanted, limit=PAGE, after=found[-1].id if found else None):
        found.extend(page)
    return found


async def read_letters(bq: BrokerQ, records: Sequence[JobView]) -> list[Letter]:
    """Return the open dead letters of those jobs."""
    dead = [view.id for view in records if view.state in BURIED]
    found: list[Letter] = []
    for ids in pages(dead, PAGE):
        wanted = LetterFilter(ids=ids, states={LetterState.OPEN})
        found.extend(await bq.dead_letters.search(wanted, limit=PAGE))
    return found


def pages(items: Sequence[str], size: int) -> list[Sequence[str]]:
    """Return the items in groups of `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]
