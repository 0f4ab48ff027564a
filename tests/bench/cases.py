"""brokerq, measured in a process of its own: `python -m tests.bench.cases NAME URL ...`."""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from brokerq_sqlite.lock import FileLock

from brokerq import BrokerQ

BATCH = 1000
Figures = dict[str, float]


def _app(url: str) -> BrokerQ:
    return BrokerQ("bench", url=url)


async def publish_one(url: str, count: int) -> Figures:
    """Publish jobs one at a time, each confirmed before the next."""
    bq = _app(url)

    @bq.job()
    async def noop(number: int) -> None: ...

    async with bq:
        await noop.publish(0)
        begin = time.perf_counter()
        for number in range(count):
            await noop.publish(number)
        return {"rate": count / (time.perf_counter() - begin)}


async def publish_many(url: str, count: int) -> Figures:
    """Publish jobs in batches."""
    bq = _app(url)

    @bq.job()
    async def noop(number: int) -> None: ...

    async with bq:
        await noop.publish(0)
        begin = time.perf_counter()
        for start in range(0, count, BATCH):
            await noop.publish_many(noop.arguments(n) for n in range(start, start + BATCH))
        return {"rate": count / (time.perf_counter() - begin)}


async def drain(url: str, count: int, concurrency: int) -> Figures:
    """Run no-op jobs until none is left, records and status on."""
    bq = _app(url)
    ends = [0.0]

    @bq.job()
    async def noop(number: int) -> None:
        ends[0] = time.perf_counter()

    async with bq:
        for start in range(0, count, BATCH):
            await noop.publish_many(noop.arguments(n) for n in range(start, start + BATCH))
        cpu, begin = time.process_time(), time.perf_counter()
        report = await bq.run_worker(max_jobs=count, concurrency=concurrency)
        seconds = time.perf_counter() - begin
        if report.outcomes != {"succeeded": count}:
            raise SystemExit(f"not all ran: {report}")
        return {
            "rate": count / seconds,
            "cpu_per_10k": (time.process_time() - cpu) / count * 10_000,
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
        print("ready", flush=True)
        await bq.run_worker(stop=stop)
    seen.sort()
    return {"p50_ms": seen[count // 2] * 1000, "p99_ms": seen[int(count * 0.99)] * 1000}


async def ping_for(url: str, count: int) -> Figures:
    """Publish what `latency` waits for, a few milliseconds apart."""
    bq = _app(url)

    @bq.job()
    async def ping(sent: float) -> None: ...

    async with bq:
        for _ in range(count):
            await ping.publish(time.monotonic())
            await asyncio.sleep(0.01)
    return {}


async def idle(url: str, seconds: float) -> Figures:
    """Have nothing to do."""
    bq = _app(url)

    @bq.job()
    async def noop(number: int) -> None: ...

    stop = asyncio.Event()
    async with bq:
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
    for case in (publish_one, publish_many, drain, worker, latency, ping_for, idle, memory)
}

if __name__ == "__main__":
    name, url, *numbers = sys.argv[1:]
    figures = asyncio.run(CASES[name](url, *map(int, numbers)))
    print(json.dumps(figures), flush=True)
