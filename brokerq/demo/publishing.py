"""Publishes the rows, and some of them twice, as a publisher does that is not sure of the first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import Random

from brokerq.demo.rows import Row
from brokerq.job import AnyJob

BATCH = 200
TWICE = 0.05


class Publisher:
    """Publishes rows and remembers what the broker answered.

    Attributes:
        ids: The id that a row's first publish returned, by row.
        twice: How many rows were published a second time.
        absorbed: How many of these were answered with the job that was there already.
    """

    def __init__(self, job: AnyJob, rows: Mapping[int, Row], *, run: str, seed: int) -> None:
        self._job = job
        self._rows = rows
        self._run = run
        self._random = Random(f"{seed} publish")  # noqa: S311 - repeatable on purpose
        # One half is sent again while the row waits, the other once it has succeeded.
        self._half = max(1, round(len(rows) * TWICE / 2))
        self.ids: dict[int, str] = {}
        self.twice = 0
        self.absorbed = 0

    def entry(self, row: int) -> str:
        """Return the idempotency key of a row, new in every run."""
        return f"{self._run}/{row}"

    async def publish_all(self) -> None:
        """Publish every row, and some again among those that come after them."""
        order = list(self._rows)
        for row in self._random.sample(order, min(self._half, len(order))):
            order.insert(self._random.randint(order.index(row) + 1, len(order)), row)
        await self._publish(order)

    async def publish_again(self, succeeded: Collection[int]) -> None:
        """Publish some of the rows that succeeded a second time."""
        candidates = sorted(succeeded)
        await self._publish(self._random.sample(candidates, min(self._half, len(candidates))))

    async def _publish(self, order: Sequence[int]) -> None:
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            payloads = [
                self._job.arguments(entry=self.entry(row), record=self._rows[row]) for row in batch
            ]
            for row, handle in zip(batch, await self._job.publish_many(payloads), strict=True):
                if row in self.ids:
                    self.twice += 1
                    self.absorbed += handle.duplicate and handle.id == self.ids[row]
                else:
                    self.ids[row] = handle.id
