"""Who listens hears everything in order; who stands around handlers decides about them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from brokerq import BrokerQ, Context, Event, Letter, Reject, RetryPolicy, State
from brokerq.hooks import HookName
from brokerq.middleware import CallNext, log_runs, timeout
from tests.engine.conftest import ONCE, letters_of

JOB_HOOKS: tuple[HookName, ...] = (
    "published",
    "started",
    "succeeded",
    "failed",
    "retrying",
    "dead",
    "cancelled",
    "skipped",
)


def listen(bq: BrokerQ) -> list[Event]:
    """Return the list that all events are written to."""
    heard: list[Event] = []
    for name in (*JOB_HOOKS, "worker_start", "worker_stop"):
        bq.on(name)(heard.append)
    return heard


async def test_every_step_is_heard_in_order(bq: BrokerQ) -> None:
    heard = listen(bq)

    @bq.job(retry=RetryPolicy(max_attempts=2, initial="5ms", jitter="none"))
    async def work() -> None:
        raise ValueError("no luck")

    handle = await work.publish()
    await bq.run_worker(burst=True)
    assert [event.name for event in heard] == [
        "published",
        "worker_start",
        "started",
        "failed",
        "retrying",
        "started",
        "failed",
        "dead",
        "worker_stop",
    ]
    about = [event for event in heard if not event.name.startswith("worker")]
    assert {(event.job_id, event.job, event.queue) for event in about} == {
        (handle.id, "work", "default")
    }
    assert [event.attempt for event in about] == [0, 0, 1, 1, 1, 2, 2]
    assert isinstance(heard[3].error, ValueError)
    assert heard[4].delay is not None
    assert heard[4].delay.total_seconds() == 0.005
    assert heard[7].reason == "exhausted"


async def test_good_ends_are_heard_too(bq: BrokerQ) -> None:
    heard = listen(bq)

    @bq.job()
    async def work() -> None: ...

    await work.publish()
    await bq.run_worker(burst=True)
    names = [event.name for event in heard]
    assert names == ["published", "worker_start", "started", "succeeded", "worker_stop"]


async def test_a_slow_listener_does_not_change_the_order(bq: BrokerQ) -> None:
    heard: list[str] = []

    @bq.on("started")
    async def slow(event: Event) -> None:
        await asyncio.sleep(0.05)
        heard.append(event.name)

    @bq.on("succeeded")
    async def quick(event: Event) -> None:
        heard.append(event.name)

    @bq.job()
    async def work() -> None: ...

    await work.publish()
    await bq.run_worker(burst=True)
    assert heard == ["started", "succeeded"]


async def test_a_listener_that_fails_changes_nothing(
    bq: BrokerQ, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    @bq.on("succeeded")
    def broken(_event: Event) -> None:
        raise RuntimeError("listener")

    @bq.on("succeeded")
    def fine(event: Event) -> None:
        heard.append(event.name)

    @bq.job()
    async def work() -> None: ...

    handle = await work.publish()
    await bq.run_worker(burst=True)
    assert heard == ["succeeded"]
    assert (await handle.status()).state == State.SUCCEEDED
    assert f"the hook for 'succeeded' failed on job {handle.id}" in caplog.text


async def test_on_dead_gets_the_letter_when_it_is_safe(bq: BrokerQ) -> None:
    told: list[tuple[Letter, int, int]] = []

    async def notify(letter: Letter) -> None:
        [stats] = await bq.queues.stats(["default"])
        told.append((letter, len(await letters_of(bq)), stats.dead))

    @bq.job(retry=ONCE, on_dead=[notify])
    async def work(number: int) -> None:
        raise Reject("bad number")

    handle = await work.publish(5)
    await bq.run_worker(burst=True)
    [(letter, catalogued, physical)] = told
    assert (letter.job_id, letter.reason, letter.message.body) == (
        handle.id,
        "rejected",
        b'{"number":5}',
    )
    assert (catalogued, physical) == (1, 1)


async def test_middleware_wraps_in_order_the_jobs_own_innermost(bq: BrokerQ) -> None:
    calls: list[str] = []

    def around(name: str) -> Any:
        async def middleware(_ctx: Context, call_next: CallNext) -> Any:
            calls.append(f"{name} in")
            result = await call_next()
            calls.append(f"{name} out")
            return f"{result}, {name}"

        return middleware

    bq.use(around("first"))
    bq.use(around("second"))

    @bq.job(middleware=[around("own")])
    def work() -> str:
        calls.append("handler")
        return "result"

    handle = await work.publish()
    await bq.run_worker(burst=True)
    steps = ["first in", "second in", "own in", "handler", "own out", "second out", "first out"]
    assert calls == steps
    assert await handle.result() == "result, own, second, first"


async def test_middleware_may_answer_itself_or_refuse(bq: BrokerQ) -> None:
    ran: list[str] = []

    @bq.use
    async def gate(ctx: Context, call_next: CallNext) -> Any:
        match ctx.headers.get("gate"):
            case "answer":
                return "answered"
            case "reject":
                raise Reject("closed")
            case "swallow":
                try:
                    return await call_next()
                except ValueError:
                    return "swallowed"
            case _:
                return await call_next()

    @bq.job(retry=ONCE)
    async def work() -> str:
        ran.append("ran")
        raise ValueError

    handles = {
        name: await work.options(headers={"gate": name}).publish()
        for name in ("answer", "reject", "swallow")
    }
    await bq.run_worker(burst=True)
    assert await handles["answer"].result() == "answered"
    assert await handles["swallow"].result() == "swallowed"
    assert (await handles["reject"].status()).note == "closed"
    assert ran == ["ran"]


async def test_a_part_of_the_chain_may_have_a_limit_of_its_own(bq: BrokerQ) -> None:
    @bq.job(retry=ONCE, middleware=[timeout("20ms")])
    async def work() -> None:
        await asyncio.sleep(60)

    handle = await work.publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert view.failure is not None
    assert view.failure.message == "ran longer than its timeout of 20ms"


async def test_runs_can_be_logged(bq: BrokerQ, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "brokerq.job")
    bq.use(log_runs)

    @bq.job()
    async def work(ctx: Context) -> None:
        ctx.log.info("working")

    handle = await work.publish()
    await bq.run_worker(burst=True)
    records = [record for record in caplog.records if record.name == "brokerq.job"]
    lines = [record.getMessage() for record in records]
    assert lines == ["job work begins (attempt 1)", "working", "job work ends: done"]
    assert {vars(record)["job_id"] for record in records} == {handle.id}
