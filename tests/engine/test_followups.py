"""A job that comes back at once meets its own first run, which is still being settled."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from brokerq import BrokerQ, RetryPolicy, Snooze
from brokerq.broker import Delivery, Verdict
from brokerq.engine.lanes import LaneReader
from tests.engine.conftest import Place

JOBS = 5
RUNS = 3


@pytest.fixture(params=[None, "none://"], ids=["with store", "without store"])
async def bq(request: pytest.FixtureRequest, place: Place) -> BrokerQ:
    store_url: str | None = request.param
    return place.app(store_url=store_url)


@pytest.fixture(autouse=True)
def slow_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the answer to a settlement arrive after what it set free was delivered again."""
    settle = LaneReader.settle

    async def settle_slowly(
        reader: LaneReader, verdicts: Sequence[tuple[Delivery, Verdict]]
    ) -> Sequence[bool]:
        answers = await settle(reader, verdicts)
        await asyncio.sleep(0.03)
        return answers

    monkeypatch.setattr(LaneReader, "settle", settle_slowly)


async def test_a_job_that_is_due_again_at_once_is_not_taken_for_a_duplicate(bq: BrokerQ) -> None:
    runs: Counter[str] = Counter()

    @bq.job(retry=RetryPolicy(max_attempts=RUNS, initial="0s", jitter="none"))
    async def fail(number: int) -> None:
        runs[f"fail {number}"] += 1
        raise ValueError

    @bq.job()
    async def snooze(number: int) -> None:
        runs[f"snooze {number}"] += 1
        if runs[f"snooze {number}"] < RUNS:
            raise Snooze("0s")

    await fail.publish_many(fail.arguments(number) for number in range(JOBS))
    await snooze.publish_many(snooze.arguments(number) for number in range(JOBS))
    await bq.run_worker(burst=True, concurrency=50)
    assert len(runs) == 2 * JOBS
    assert set(runs.values()) == {RUNS}
    [stats] = await bq.queues.stats()
    assert (stats.ready, stats.in_flight, stats.delayed, stats.dead) == (0, 0, 0, JOBS)
