"""What a handler may do to its worker: nothing. Odd exceptions, blocked loops, time limits."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from brokerq import BrokerQ, Context, Drop, Reject, RetryPolicy, State
from tests.engine.conftest import ONCE, SHORT_LEASE, Place, eventually, letters_of, working


class SilentError(Exception):
    """Cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration(1), SilentError()],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("in_thread", [False, True], ids=["coroutine", "thread"])
async def test_whatever_a_handler_raises_is_its_failure(
    bq: BrokerQ, error: BaseException, *, in_thread: bool
) -> None:
    if in_thread:

        @bq.job(name="work", retry=ONCE)
        def plain() -> None:
            raise error

    else:

        @bq.job(name="work", retry=ONCE)
        async def coroutine() -> None:
            raise error

    handle = await bq.publish("work")
    report = await asyncio.wait_for(bq.run_worker(burst=True), 30)
    assert report.outcomes == {"dead": 1}
    view = await handle.status()
    assert (view.state, view.attempts) == (State.DEAD, 1)
    assert view.failure is not None
    [letter] = await letters_of(bq)
    assert letter.reason == "exhausted"


async def test_text_that_no_store_can_keep_is_kept_escaped(bq: BrokerQ) -> None:
    @bq.job(retry=ONCE)
    async def work(ctx: Context) -> None:
        ctx.log.info("half a pair: \ud800")
        raise Reject("\ud800")

    handle = await work.publish()
    await asyncio.wait_for(bq.run_worker(burst=True), 30)
    view = await handle.status()
    assert view.note == "\\ud800"
    assert view.log is not None
    assert view.log[0].endswith("half a pair: \\ud800")


async def test_a_coroutine_that_takes_too_long_is_cancelled(bq: BrokerQ) -> None:
    cleaned: list[bool] = []

    @bq.job(timeout="30ms", retry=ONCE)
    async def slow(ctx: Context) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(ctx.cancelled)

    handle = await slow.publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert view.failure is not None
    assert view.failure.type.endswith("JobTimeoutError")
    assert view.failure.message == "ran longer than its timeout of 30ms"
    assert cleaned == [True]


async def test_a_thread_that_takes_too_long_has_failed_when_it_returns(bq: BrokerQ) -> None:
    told: list[bool] = []
    waiting = threading.Event()

    @bq.job(timeout="30ms", retry=ONCE)
    def slow(ctx: Context) -> str:
        while not ctx.cancelled:
            waiting.wait(0.005)
        told.append(ctx.cancelled)
        return "too late"

    handle = await slow.publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert (view.state, view.attempts) == (State.DEAD, 1)
    assert view.failure is not None
    assert view.failure.type.endswith("JobTimeoutError")
    assert told == [True]


async def test_a_timeout_is_an_attempt_and_is_retried(bq: BrokerQ) -> None:
    attempts: list[int] = []

    @bq.job(timeout="30ms")
    async def slow_once(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            await asyncio.sleep(60)
        return "quick"

    handle = await slow_once.publish()
    await bq.run_worker(burst=True)
    assert await handle.result() == "quick"
    assert attempts == [1, 2]


async def test_a_job_without_timeout_runs_on(bq: BrokerQ) -> None:
    @bq.job(timeout=None)
    async def work() -> str:
        await asyncio.sleep(0.05)
        return "done"

    handle = await work.publish()
    await bq.run_worker(burst=True)
    assert await handle.result() == "done"


async def test_a_handler_that_blocks_its_loop_keeps_its_lease(place: Place) -> None:
    """The heartbeat comes from the engine's own thread."""
    one, two = place.app(), place.app()
    runs: list[str] = []
    for bq in (one, two):
        bq.queue("default", lease=SHORT_LEASE)

    @one.job(name="work")
    async def blocking() -> None:
        runs.append("one")
        time.sleep(0.9)  # noqa: ASYNC251 - three leases long

    @two.job(name="work")
    async def other() -> None:
        runs.append("two")

    handle = await blocking.publish()
    other_loop = threading.Thread(target=lambda: asyncio.run(_wait_for_work(two)))
    async with working(one):
        await eventually(lambda: runs == ["one"])
        other_loop.start()
        view = await handle.wait("30s")
    other_loop.join()
    assert runs == ["one"]
    assert (view.state, view.crashes) == (State.SUCCEEDED, 0)


async def _wait_for_work(bq: BrokerQ) -> None:
    await bq.run_worker(burst=True)
    await bq.close()


async def test_a_blocked_loop_is_no_timeout_of_jobs_that_had_not_begun(bq: BrokerQ) -> None:
    @bq.job(timeout="100ms", retry=ONCE)
    async def work(number: int) -> int:
        if number == 0:
            time.sleep(0.25)  # noqa: ASYNC251 - its neighbours wait for the loop meanwhile
        return number

    handles = await work.publish_many(work.arguments(number) for number in range(5))
    await bq.run_worker(burst=True)
    states = [(await handle.status()).state for handle in handles[1:]]
    assert states == [State.SUCCEEDED] * 4


async def test_a_job_past_its_deadline_is_not_begun(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None:
        raise AssertionError

    handle = await work.options(deadline=datetime.now(UTC) - timedelta(seconds=1)).publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert (view.state, view.attempts) == (State.EXPIRED, 0)
    [letter] = await letters_of(bq)
    assert letter.reason == "expired"
    assert "deadline" in letter.message.headers["bq-dead-note"]


async def test_a_job_that_fails_past_its_deadline_expires(bq: BrokerQ) -> None:
    @bq.job(retry=RetryPolicy(max_attempts=50))
    async def work(ctx: Context) -> None:
        assert ctx.expires_at is not None
        left = ctx.expires_at - datetime.now(UTC)
        await asyncio.sleep(left.total_seconds() + 0.01)
        raise ValueError

    handle = await work.options(deadline="2s").publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert (view.state, view.attempts) == (State.EXPIRED, 1)


async def test_an_absolute_time_is_kept_and_never_early(bq: BrokerQ) -> None:
    ran_at: list[datetime] = []

    @bq.job()
    async def work() -> None:
        ran_at.append(datetime.now(UTC))

    due = datetime.now(UTC) + timedelta(milliseconds=200)
    handle = await work.options(at=due).publish()
    view = await handle.status()
    assert view.due_at == due or datetime.now(UTC) >= due  # the latter where that took so long
    await bq.run_worker(burst=True)
    assert ran_at[0] >= due


async def test_an_absolute_time_in_the_past_means_at_once(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    handle = await work.options(at=datetime.now(UTC) - timedelta(days=1)).publish()
    assert (await handle.status()).state == State.QUEUED
    assert (await bq.process()).outcomes == {"succeeded": 1}


async def test_a_dropped_job_is_skipped_with_its_reason(bq: BrokerQ) -> None:
    @bq.job(idempotency_key="order")
    async def work(order: str) -> None:
        raise Drop("not needed any more")

    handle = await work.publish("o-1")
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert (view.state, view.note, view.failure) == (State.SKIPPED, "not needed any more", None)
    assert not (await work.publish("o-1")).duplicate  # the key is free


async def test_the_context_tells_what_the_publisher_said(bq: BrokerQ) -> None:
    seen: list[Context] = []

    @bq.job(tags=["billing"], idempotency_key="order")
    async def work(ctx: Context, order: str) -> None:
        seen.append(ctx)

    options = work.options(tags=["urgent"], correlation="request-7", headers={"shop": "north"})
    handle = await options.publish("o-1")
    await bq.run_worker(burst=True)
    [ctx] = seen
    assert (ctx.id, ctx.job, ctx.queue) == (handle.id, "work", "default")
    assert (ctx.tags, ctx.correlation) == (("billing", "urgent"), "request-7")
    assert dict(ctx.headers) == {"shop": "north"}
    assert (ctx.key, ctx.effect_key) == ("o-1", "work:o-1")
    view = await handle.status()
    assert (view.tags, view.correlation) == (("billing", "urgent"), "request-7")


async def test_the_log_is_kept_with_the_job(bq: BrokerQ) -> None:
    @bq.job()
    async def work(ctx: Context) -> None:
        ctx.log.debug("not kept")
        ctx.log.info("charging", cents=5)
        ctx.log.warning("slow")
        if ctx.attempt == 1:
            raise ValueError

    handle = await work.publish()
    await bq.run_worker(burst=True)
    log = (await handle.status()).log
    assert log is not None
    lines = [line.split(" ", 1)[1] for line in log]
    assert lines == ["info charging cents=5", "warning slow"] * 2


async def test_the_log_of_a_chatty_job_is_bounded(bq: BrokerQ) -> None:
    @bq.job()
    async def chatty(ctx: Context) -> None:
        for number in range(1200):
            ctx.log.info("line", number=number)
        ctx.log.info("x" * 10_000)

    handle = await chatty.publish()
    await bq.run_worker(burst=True)
    log = (await handle.status()).log
    assert log is not None
    assert len(log) == 1000
    assert max(map(len, log)) == 4096
    assert log[-2].endswith("line number=1199")


async def test_a_job_that_is_too_old_is_not_begun(place: Place) -> None:
    bq = place.app()

    @bq.job(retry=RetryPolicy(max_age="1d"))
    async def work() -> None:
        raise AssertionError

    await bq.open()
    long_ago = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    job_id = await place.send(b"{}", bq_job="work", bq_id="0190-old", bq_first_at=long_ago)
    await bq.run_worker(burst=True)
    view = await bq.jobs.status("0190-old")
    assert (view.state, view.attempts) == (State.EXPIRED, 0)
    assert "max_age" in (await bq.dead_letters.get("0190-old")).message.headers["bq-dead-note"]
    assert job_id


async def test_two_workers_of_one_app_share_the_work(bq: BrokerQ) -> None:
    runs: list[int] = []

    @bq.job()
    async def work(number: int) -> None:
        await asyncio.sleep(0.001)
        runs.append(number)

    await work.publish_many(work.arguments(number) for number in range(100))
    reports = await asyncio.gather(*(bq.run_worker(burst=True, concurrency=5) for _ in range(2)))
    assert sorted(runs) == list(range(100))
    assert sum(report.outcomes.get("succeeded", 0) for report in reports) == 100
