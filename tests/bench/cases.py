"""brokerq, measured in a process of its own: `python -m tests.bench.cases NAME URL ...`.

What `brokerq worker` does once it has loaded the program, a worker here does too.
"""

import asyncio
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from brokerq_sqlite.lock import FileLock

from brokerq import BrokerQ
from brokerq.cli.memory import keep_program
from tests.bench.meter import Figures, Meter

BATCH = 1000
SPREAD = 10.0
"""Seconds over which jobs are published that are late or not: a burst would wait for itself."""
PREFIX = "BENCH_PREFIX"
"""The environment variable with the names' prefix, where cases share a server."""


def _app(url: str) -> BrokerQ:
    return BrokerQ("bench", prefix=os.environ.get(PREFIX), url=url)


async def publish_one(url: str, count: int) -> Figures:
    """Publish jobs one at a time, each confirmed before the next."""
    bq = _app(url)

    @bq.job()
    async def noop(number: int) -> None: ...

    async with bq:
        await noop.publish(0)
        meter = Meter()
        for number in range(count):
            await noop.publish(number)
        return meter.figures(count)


async def publish_many(url: str, count: int) -> Figures:
    """Publish jobs in batches."""
    bq = _app(url)

    @bq.job()
    async def noop(number: int) -> None: ...

    async with bq:
        await noop.publish(0)
        meter = Meter()
        for start in range(0, count, BATCH):
            await noop.publish_many(noop.arguments(n) for n in range(start, start + BATCH))
        return meter.figures(count)


async def drain(url: str, count: int, concurrency: int) -> Figures:
    """Run no-op jobs until none is left, records and status on."""
    return await _drain(url, count, concurrency, 0)


async def drain_short(url: str, count: int, concurrency: int) -> Figures:
    """Run jobs that wait up to 20 ms."""
    return await _drain(url, count, concurrency, 0.02)


async def _drain(url: str, count: int, concurrency: int, longest: float) -> Figures:
    bq = _app(url)

    @bq.job()
    async def work(number: int) -> None:
        if longest:
            await asyncio.sleep(random.Random(number).uniform(0, longest))

    async with bq:
        for start in range(0, count, BATCH):
            await work.publish_many(work.arguments(n) for n in range(start, start + BATCH))
        if not url.startswith("memory:"):  # whose jobs are in the program
            keep_program()
        meter = Meter()
        report = await bq.run_worker(max_jobs=count, concurrency=concurrency)
        figures = meter.figures(count)
        if report.outcomes != {"succeeded": count}:
            raise SystemExit(f"not all ran: {report}")
        return figures


async def delays(url: str, count: int) -> Figures:
    """Publish with delays of 1 to 10 s, shuffled and spread over 10 s; tell how late jobs begin.

    Late counts from before the publish, so its own time is part of it.
    """
    bq = _app(url)
    late: list[float] = []
    order = list(range(count))
    random.Random(count).shuffle(order)

    @bq.job()
    async def tick(due: float) -> None:
        late.append(time.time() - due)

    async def publish(number: int) -> None:
        delay = 1 + 9 * number / count
        due = time.time() + delay
        await tick.options(delay=timedelta(seconds=delay)).publish(due)

    async with bq:
        running = asyncio.create_task(bq.run_worker(max_jobs=count, concurrency=100))
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for position, number in enumerate(order):
                due = begin + SPREAD * position / count
                await asyncio.sleep(due - time.monotonic())
                group.create_task(publish(number))
        await running
    late.sort()
    return {
        "min_ms": late[0] * 1000,
        "p50_ms": late[count // 2] * 1000,
        "p99_ms": late[int(count * 0.99)] * 1000,
    }


async def worker(url: str, seconds: float) -> Figures:
    """Work for a while beside other processes; count jobs, and the longest wait for the lock."""
    bq = _app(url)
    done = 0
    longest = [0.0]
    acquire = FileLock.acquire

    def timed(self: FileLock, timeout: float) -> bool:
        begin = time.perf_counter()
        taken = acquire(self, timeout)
        longest[0] = max(longest[0], time.perf_counter() - begin)
        return taken

    FileLock.acquire = timed  # type: ignore[method-assign]

    @bq.job()
    async def noop(number: int) -> None:
        nonlocal done
        done += 1

    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    async with bq:
        keep_program()
        await bq.run_worker(concurrency=100, stop=stop)
    return {"jobs": done, "longest_wait_ms": longest[0] * 1000}


async def latency(url: str, count: int) -> Figures:
    """Be the worker to whom another process publishes; its clock is the same host's."""
    bq = _app(url)
    seen: list[float] = []
    stop = asyncio.Event()

    @bq.job()
    async def ping(sent: float) -> None:
        seen.append(time.monotonic() - sent)
        if len(seen) == count:
            stop.set()

    async with bq:
        keep_program()
        print("ready", flush=True)
        await bq.run_worker(stop=stop)
    seen.sort()
    return {"p50_ms": seen[count // 2] * 1000, "p99_ms": seen[int(count * 0.99)] * 1000}


async def ping_for(url: str, count: int, together: int = 1, apart: int = 10) -> Figures:
    """Publish what `latency` waits for, so many at a time, and so many milliseconds apart."""
    bq = _app(url)

    @bq.job()
    async def ping(sent: float) -> None: ...

    async with bq:
        for _ in range(0, count, together):
            now = time.monotonic()
            await ping.publish_many(ping.arguments(now) for _ in range(together))
            await asyncio.sleep(apart / 1000)
    return {}


async def idle(url: str, seconds: float) -> Figures:
    """Have nothing to do."""
    bq = _app(url)

    @bq.job()
    async def noop(number: int) -> None: ...

    stop = asyncio.Event()
    async with bq:
        keep_program()
        running = asyncio.create_task(bq.run_worker(stop=stop))
        await asyncio.sleep(1)
        cpu, begin = time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        share = (time.process_time() - cpu) / (time.perf_counter() - begin)
        stop.set()
        await running
    return {"cpu_percent": share * 100, "rss_mb": _resident()}


async def memory(url: str, count: int) -> Figures:
    """Watch how much memory a worker has after a fifth of the jobs, and after all."""
    bq = _app(url)
    early = [0.0]
    done = 0

    @bq.job()
    async def noop(number: int) -> None:
        nonlocal done
        done += 1
        if done == count // 5:
            early[0] = _resident()

    async with bq:
        for start in range(0, count, BATCH):
            await noop.publish_many(noop.arguments(n) for n in range(start, start + BATCH))
        await bq.run_worker(max_jobs=count, concurrency=100)
        return {"early_mb": early[0], "late_mb": _resident()}


def _resident() -> float:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - it is no file
            return int(file.read().split()[1]) * resource.getpagesize() / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


CASES: dict[str, Callable[..., Coroutine[Any, Any, Figures]]] = {
    case.__name__: case
    for case in (
        publish_one,
        publish_many,
        drain,
        drain_short,
        delays,
        worker,
        latency,
        ping_for,
        idle,
        memory,
    )
}

if __name__ == "__main__":
    name, url, *numbers = sys.argv[1:]
    figures = asyncio.run(CASES[name](url, *map(int, numbers)))
    print(json.dumps(figures), flush=True)
