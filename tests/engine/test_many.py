"""A thousand at once, and many thousands without growing."""

from __future__ import annotations

import gc
import tracemalloc

from brokerq import BrokerQ, Context
from tests.engine.conftest import AT_ONCE, Place

ALLOWED = 20_000
"""Bytes: less than what a worker, or ten bytes of each job, would leave behind."""


async def test_a_thousand_jobs_are_published_in_one_call(bq: BrokerQ) -> None:
    seen: set[int] = set()

    @bq.job()
    async def work(number: int) -> None:
        seen.add(number)

    handles = await work.publish_many(work.arguments(number) for number in range(1000))
    assert len({handle.id for handle in handles}) == 1000
    report = await bq.run_worker(burst=True, concurrency=50)
    assert report.outcomes == {"succeeded": 1000}
    assert seen == set(range(1000))


async def test_the_engine_does_not_grow_with_the_jobs_it_has_run(place: Place) -> None:
    """Without a store: what is kept on purpose would grow."""
    bq = place.app(store_url="none://", retry=AT_ONCE)
    jobs = 2000 if place.url.startswith("memory") else 600

    @bq.job()
    async def work(ctx: Context, number: int) -> None:
        if number % 10 == 0 and ctx.attempt == 1:
            raise ValueError(number)

    async def turn() -> None:
        await work.publish_many(work.arguments(number) for number in range(jobs))
        await bq.run_worker(concurrency=50, burst=True)

    tracemalloc.start()
    await turn()
    await turn()  # by now all is filled that is filled once
    gc.collect()
    before = tracemalloc.take_snapshot()
    await turn()
    await turn()
    gc.collect()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    ours = [tracemalloc.Filter(inclusive=True, filename_pattern="*/brokerq/*")]
    growth = after.filter_traces(ours).compare_to(before.filter_traces(ours), "lineno")
    assert sum(each.size_diff for each in growth) < ALLOWED, growth
