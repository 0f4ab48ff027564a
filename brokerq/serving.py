"""Works on what a host hands over with one call, and tells it what has become of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import cast

from brokerq import working
from brokerq.broker import Batch, Handover, Release
from brokerq.definition import Definition
from brokerq.duration import ZERO
from brokerq.engine.report import Report
from brokerq.engine.worker import Worker
from brokerq.errors import CapabilityError
from brokerq.registry import Registry
from brokerq.runtime import Runtime
from brokerq.session import Session

logger = logging.getLogger("brokerq.worker")

RESERVE = timedelta(seconds=5)
"""Kept of the host's time to give back what is not done."""
RESERVE_SHARE = 4
"""It is at most this part of the time."""
STEPS = 5
"""What the reserve is divided into: jobs give way, are recorded and settled, hooks are heard."""
PAUSED = timedelta(minutes=5)
"""For how long the messages of a paused queue are given back: the host brings them all the same."""
EVERYTHING = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """How a host's time is used.

    Attributes:
        work: What jobs have; None: no limit.
        reserve: What is kept to give back the rest.
    """

    work: timedelta | None
    reserve: timedelta


def divide(left: timedelta | None) -> Time:
    """Divide the time that is left; None: the host waits for ever."""
    if left is None:
        return Time(work=None, reserve=RESERVE)
    reserve = max(ZERO, min(RESERVE, left / RESERVE_SHARE))
    return Time(work=max(ZERO, left - reserve), reserve=reserve)


async def serve(
    session: Session,
    registry: Registry,
    event: object,
    context: object,
    *,
    concurrency: int,
    warned: set[str],
) -> object:
    """Run the jobs that one call has brought, and return the answer.

    Of each job that may take too long it warns once; `warned` is where it remembers that.

    Raises `CapabilityError` where the broker knows no such calls, and what `Handover` raises.
    """
    user_loop = asyncio.get_running_loop()
    host = asyncio.current_task()
    assert host is not None  # noqa: S101 - within a coroutine

    async def build() -> tuple[Batch, Worker | None]:
        runtime = await session.runtime()
        batch = await _take_over(runtime, event, context)
        queue = batch.lane.queue
        if runtime.store is not None and queue in await runtime.store.paused():
            await _give_back(batch)
            return batch, None
        time = divide(batch.left)
        _warn_of_long_jobs(registry.jobs, queue, time, warned)
        options = working.plan(
            registry, {queue: 1}, concurrency=concurrency, until="idle", grace=ZERO
        )
        options = replace(options, max_runtime=time.work, give_way=time.reserve / STEPS)
        runtime = replace(runtime, broker=batch)
        return batch, Worker(runtime, options, user_loop=user_loop, host=host)

    batch, worker = await session.call(build())
    if worker is not None:
        await working.run(session, _until_settled(worker, batch), worker.request_stop, None)
    return batch.answer()


async def _take_over(runtime: Runtime, event: object, context: object) -> Batch:
    broker = runtime.broker
    if not isinstance(broker, Handover):
        raise CapabilityError(
            "no host hands over this broker's messages: a worker fetches them, `brokerq worker`"
        )
    queues = [queue.spec for queue in runtime.registry.queues.values()]
    return await cast("Handover", broker).take_over(event, context, queues)


async def _give_back(batch: Batch) -> None:
    """Give back the messages of a queue that is paused."""
    logger.info("queue %s is paused: its messages are given back", batch.lane.queue)
    async with batch.consume(batch.lane, prefetch=EVERYTHING) as consumer:
        deliveries = await consumer.receive(EVERYTHING)
        await consumer.settle([(each, Release(delay=PAUSED)) for each in deliveries])


async def _until_settled(worker: Worker, batch: Batch) -> Report:
    settled = asyncio.ensure_future(batch.settled())
    settled.add_done_callback(lambda _: worker.request_stop())
    try:
        return await worker.main()
    finally:
        settled.cancel()


def _warn_of_long_jobs(
    jobs: Mapping[str, Definition], queue: str, time: Time, warned: set[str]
) -> None:
    """Say which jobs may be interrupted; those that always are never end."""
    if time.work is None:
        return
    names = {
        name
        for name, job in jobs.items()
        if job.queue == queue and (job.timeout is None or job.timeout > time.work)
    }
    if names - warned:
        logger.warning(
            "the host leaves jobs %.1f s, and the timeout of %s is longer: what takes longer is "
            "interrupted and comes again; give the job less time, or have the host give more",
            time.work.total_seconds(),
            ", ".join(sorted(names)),
        )
        warned |= names
