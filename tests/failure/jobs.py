"""The app that these tests run: one job for every fate, each of which keeps the ledger."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from brokerq import BrokerQ, Context, Drop, Limits, Reject, RetryPolicy, Snooze
from brokerq.clock import Clock
from tests.failure.ledger import Ledger, of, read
from tests.failure.spec import Place

MAX_ATTEMPTS = 3
RETRY_DELAY = 0.2
SNOOZE = 0.2
QUEUE = "work"


def _nothing(_: str) -> None:
    """Reach a point at which nothing is to happen."""


@dataclass(slots=True, kw_only=True)
class Scribe:
    """Writes down what a handler does, around the handler.

    Attributes:
        reach: Called at each named point; it may not return.
    """

    ledger: Ledger
    reach: Callable[[str], None] = field(default=_nothing)

    def begin(self, ctx: Context, n: int) -> None:
        self.ledger.write("begin", ctx=ctx, n=n)

    def effect(self, ctx: Context, n: int) -> None:
        self.ledger.write("effect", ctx=ctx, n=n)
        self.reach("after effect")

    def end(self, ctx: Context, outcome: str) -> dict[str, int]:
        """Write the end, and return what a success gives as its result."""
        self.ledger.write("end", ctx=ctx, outcome=outcome)
        return {"fence": ctx.fence}

    def has_ended(self, ctx: Context, outcome: str) -> bool:
        """Tell whether any run of the job came to that."""
        ends = of(read(self.ledger.path), "end", ctx.id)
        return any(end.more["outcome"] == outcome for end in ends)


def build_app(
    place: Place, scribe: Scribe, *, clock: Clock | None = None, seed: int | None = None
) -> BrokerQ:
    """Return the app, not yet opened."""
    bq = BrokerQ(
        "failure",
        prefix=place.prefix,
        url=place.url,
        store_url=place.store_url,
        clock=clock,
        random=Random(seed),
        limits=Limits(),
        retry=RetryPolicy(
            max_attempts=MAX_ATTEMPTS, backoff="fixed", initial=f"{RETRY_DELAY}s", jitter="none"
        ),
    )
    bq.queue(QUEUE, lease=f"{place.lease}s")
    _add_quick(bq, scribe)
    _add_failing(bq, scribe)
    _add_buried(bq, scribe)
    _add_slow(bq, scribe)
    _add_deadly(bq, scribe)
    return bq


def _add_quick(bq: BrokerQ, scribe: Scribe) -> None:
    @bq.job(queue=QUEUE)
    async def quick(ctx: Context, n: int) -> dict[str, int]:
        scribe.begin(ctx, n)
        scribe.effect(ctx, n)
        return scribe.end(ctx, "ok")

    @bq.job(queue=QUEUE, idempotency_key="n")
    def threaded(ctx: Context, n: int) -> dict[str, int]:
        scribe.begin(ctx, n)
        scribe.effect(ctx, n)
        return scribe.end(ctx, "ok")

    @bq.job(queue=QUEUE)
    async def dropped(ctx: Context, n: int) -> None:
        scribe.begin(ctx, n)
        scribe.end(ctx, "drop")
        raise Drop("not needed")

    @bq.job(queue=QUEUE)
    async def snoozed(ctx: Context, n: int, naps: float = SNOOZE) -> dict[str, int]:
        """Snooze once: no count of the job's says so, but the ledger does."""
        scribe.begin(ctx, n)
        if not scribe.has_ended(ctx, "snooze"):
            scribe.end(ctx, "snooze")
            raise Snooze(f"{naps}s")
        scribe.effect(ctx, n)
        return scribe.end(ctx, "ok")


def _add_failing(bq: BrokerQ, scribe: Scribe) -> None:
    @bq.job(queue=QUEUE)
    async def flaky(ctx: Context, n: int, failures: int = 1) -> dict[str, int]:
        scribe.begin(ctx, n)
        scribe.effect(ctx, n)
        if ctx.attempt <= failures:
            scribe.end(ctx, "fail")
            raise ValueError(f"attempt {ctx.attempt}")
        return scribe.end(ctx, "ok")

    @bq.job(queue=QUEUE, retry=RetryPolicy(backoff="fixed", initial="30s", jitter="none"))
    async def delayed_retry(ctx: Context, n: int) -> None:
        scribe.begin(ctx, n)
        scribe.end(ctx, "fail")
        raise ValueError(f"attempt {ctx.attempt}")

    @bq.job(queue=QUEUE)
    async def hopeless(ctx: Context, n: int) -> None:
        scribe.begin(ctx, n)
        scribe.effect(ctx, n)
        scribe.end(ctx, "fail")
        raise ValueError(f"attempt {ctx.attempt}")


def _add_buried(bq: BrokerQ, scribe: Scribe) -> None:
    @bq.job(queue=QUEUE)
    async def buried(ctx: Context, n: int) -> dict[str, int]:
        """Be rejected until it comes back from the dead letters."""
        scribe.begin(ctx, n)
        scribe.effect(ctx, n)
        if not ctx.redrives:
            scribe.end(ctx, "reject")
            raise Reject("not yet")
        return scribe.end(ctx, "ok")

    @bq.job(queue=QUEUE)
    async def turncoat(ctx: Context, n: int, first: str, seconds: float = 0) -> dict[str, int]:
        """Do `first` as the first worker; succeed, after some time, as any that takes it over."""
        scribe.begin(ctx, n)
        scribe.effect(ctx, n)
        if ctx.crashes:
            await asyncio.sleep(seconds)
            return scribe.end(ctx, "ok")
        result = scribe.end(ctx, first)
        match first:
            case "fail":
                raise ValueError(first)
            case "reject":
                raise Reject(first)
            case "snooze":
                raise Snooze("10s")
            case _:
                return result


def _add_slow(bq: BrokerQ, scribe: Scribe) -> None:
    @bq.job(queue=QUEUE)
    async def slow(ctx: Context, n: int, seconds: float) -> dict[str, int]:
        scribe.begin(ctx, n)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            scribe.end(ctx, "interrupted")
            raise
        scribe.effect(ctx, n)
        return scribe.end(ctx, "ok")

    @bq.job(queue=QUEUE)
    def slow_thread(ctx: Context, n: int, seconds: float) -> dict[str, int]:
        scribe.begin(ctx, n)
        time.sleep(seconds)
        scribe.effect(ctx, n)
        return scribe.end(ctx, "ok")

    @bq.job(queue=QUEUE)
    def turncoat_thread(ctx: Context, n: int, seconds: float) -> dict[str, int]:
        """Keep the first worker's thread; be quick with any that takes the job over."""
        scribe.begin(ctx, n)
        if not ctx.crashes:
            time.sleep(seconds)
        scribe.effect(ctx, n)
        return scribe.end(ctx, "ok")

    @bq.job(queue=QUEUE)
    async def blocking(ctx: Context, n: int, seconds: float) -> dict[str, int]:
        """Block the whole event loop, as a coroutine should not."""
        scribe.begin(ctx, n)
        time.sleep(seconds)  # noqa: ASYNC251 - the fault under test
        scribe.effect(ctx, n)
        return scribe.end(ctx, "ok")


def _add_deadly(bq: BrokerQ, scribe: Scribe) -> None:
    @bq.job(queue=QUEUE)
    async def poison(ctx: Context, n: int) -> None:
        scribe.begin(ctx, n)
        os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(60)

    @bq.job(queue=QUEUE)
    def slow_poison(ctx: Context, n: int, once: str) -> None:
        """Kill the worker as soon as there is such a file."""
        scribe.begin(ctx, n)
        while not Path(once).exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
