"""Records that follow later: of jobs that were run while the store was away."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from brokerq.errors import OUTAGE
from brokerq.record import Claimed
from brokerq.store import Claim, Finish, Holding, Jobs, NewJob

logger = logging.getLogger("brokerq.worker")

MOST = 10_000


class LateRecords:
    """Keeps the ends of jobs with `on_store_error="run"` until the store can be told.

    The jobs are done and their deliveries settled; only their records, and keys, are behind. A
    worker that is killed meanwhile, or that has more than 10,000 of them, leaves those as they are.
    """

    def __init__(self, store: Jobs | None, *, owner: str, lease: timedelta) -> None:
        self._store = store
        self._owner = owner
        self._lease = lease
        self._waiting: list[tuple[NewJob, Finish]] = []
        self._writing = asyncio.Lock()

    def add(self, job: NewJob, finish: Finish) -> None:
        """Take the end of a job that nobody has claimed in the store."""
        if self._store is None:
            return
        if len(self._waiting) == MOST:
            logger.error("too many records wait for the store: that of job %s is lost", job.head.id)
            return
        self._waiting.append((job, finish))

    async def write(self) -> None:
        """Record what waits. Raises one of `OUTAGE`, and then all of it still waits."""
        async with self._writing:  # who stops waits for the write under way, and then does the rest
            if self._store is not None and self._waiting:
                await self._write(self._store)

    async def _write(self, store: Jobs) -> None:
        waiting = tuple(self._waiting)
        answers = await store.claim(
            [Claim(job=job, owner=self._owner, lease=self._lease) for job, _ in waiting]
        )
        claimed = [
            finish._replace(holding=Holding(id=job.head.id, owner=self._owner, fence=answer.fence))
            for (job, finish), answer in zip(waiting, answers, strict=True)
            if isinstance(answer, Claimed)
        ]
        if claimed:
            await store.finish(claimed)
        if len(claimed) < len(waiting):
            logger.warning("%d jobs ran that have other records", len(waiting) - len(claimed))
        del self._waiting[: len(waiting)]

    async def close(self) -> None:
        """Record what waits if the store can be reached now; say what is left behind."""
        try:
            await self.write()
        except OUTAGE as exc:
            logger.warning("%d jobs ran and are not recorded: %s", len(self._waiting), exc)
