"""What stands around every handler, and what is told of every job.

Middleware runs around the handler and may change what becomes of the job. Hooks are told
afterwards, and change nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import Any

from brokerq import BrokerQ, Context, Event, RetryPolicy, Snooze
from brokerq.middleware import CallNext

bq = BrokerQ("reports", retry=RetryPolicy(max_attempts=2, initial="50ms", jitter="none"))
spent: defaultdict[str, float] = defaultdict(float)
maintenance = ["the database is being upgraded"]


@bq.use
async def wait_for_maintenance(ctx: Context, call_next: CallNext) -> Any:
    """Put jobs off while nothing can work; that is no attempt."""
    if maintenance:
        ctx.log.info("put off")
        raise Snooze("100ms", maintenance.pop())
    return await call_next()


@bq.use
async def measure(ctx: Context, call_next: CallNext) -> Any:
    """Add up the time that each kind of job takes, failures included."""
    begun = time.perf_counter()
    try:
        return await call_next()
    finally:
        spent[ctx.job] += time.perf_counter() - begun


@bq.on("retrying")
def tell_retry(event: Event) -> None:
    """Tell of an attempt that failed."""
    print(f"{event.job} failed: {event.error}; again in {event.delay}")


@bq.on("dead")
async def alarm(event: Event) -> None:
    """Tell of a job that is given up; here an operator would be called."""
    print(f"{event.job} is dead: {event.reason}, after {event.attempt} attempts")


@bq.job()
async def monthly(month: str) -> int:
    """Write a report."""
    return len(month)


@bq.job()
async def broken(month: str) -> None:
    """Fail every time."""
    raise ValueError(f"no figures for {month}")


async def main() -> None:
    """Run one job that works and one that does not."""
    async with bq:
        good = await monthly.publish("2026-10")
        await broken.publish("2026-11")
        await bq.run_worker(burst=True)
        print("monthly:", await good.result())
    print("measured:", ", ".join(sorted(spent)))


if __name__ == "__main__":
    asyncio.run(main())
