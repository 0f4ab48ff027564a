"""Inline mode: a publish runs the job in the caller."""

from __future__ import annotations

import asyncio

import pytest

from brokerq import BrokerQ, CancelAnswer, Context, State
from brokerq.errors import (
    CapabilityError,
    PayloadError,
    ResultUnavailableError,
    UnknownJobError,
    UnknownQueueError,
)
from brokerq.middleware import CallNext


@pytest.fixture
def bq(monkeypatch: pytest.MonkeyPatch) -> BrokerQ:
    monkeypatch.setenv("BROKERQ_MODE", "inline")
    return BrokerQ("shop", url="memory://")


async def test_the_handle_knows_the_end(bq: BrokerQ) -> None:
    @bq.job(tags=["a"])
    async def add(ctx: Context, first: int, second: int) -> int:
        ctx.log.info("adding")
        return first + second

    handle = await add.options(correlation="c-1", tags=["b"]).publish(2, 3)
    view = await handle.wait()
    assert await handle.result() == 5
    assert (view.state, view.attempts, view.queue) == (State.SUCCEEDED, 1, "default")
    assert (view.correlation, view.tags) == ("c-1", ("a", "b"))
    assert [step.state for step in view.history] == ["queued", "running", "succeeded"]
    assert view.log is not None
    assert view.log[0].endswith("info adding")
    assert await handle.cancel() == CancelAnswer.TOO_LATE


def test_it_works_without_a_loop(bq: BrokerQ) -> None:
    @bq.job()
    def add(first: int, second: int) -> int:
        return first + second

    handle = add.publish_sync(2, 3)
    assert handle.result_sync() == 5
    assert handle.status_sync().state == State.SUCCEEDED
    assert handle.cancel_sync() == CancelAnswer.TOO_LATE
    bq.close_sync()


async def test_the_payload_takes_the_way_through_json(bq: BrokerQ) -> None:
    seen: list[object] = []

    @bq.job()
    async def work(value: tuple[int, int]) -> tuple[int, int]:
        seen.append(value)
        return value

    job_id = (await work.publish((1, 2))).id
    assert seen == [(1, 2)]
    assert job_id
    with pytest.raises(PayloadError, match="parameter 'value'"):
        await bq.publish("work", {"value": "no pair"})


async def test_what_the_handler_raises_is_raised(bq: BrokerQ) -> None:
    @bq.job()
    async def fail() -> None:
        raise LookupError("mine")

    @bq.job()
    def stop() -> None:
        raise StopIteration

    with pytest.raises(LookupError, match="mine"):
        await fail.publish()
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        await asyncio.wait_for(stop.publish(), 30)


async def test_the_timeout_holds(bq: BrokerQ) -> None:
    @bq.job(timeout="10ms")
    async def slow() -> None:
        await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        await slow.publish()


async def test_middleware_holds(bq: BrokerQ) -> None:
    @bq.use
    async def shout(_ctx: Context, call_next: CallNext) -> str:
        return str(await call_next()).upper()

    @bq.job()
    async def greet() -> str:
        return "hello"

    assert await (await greet.publish()).result() == "HELLO"


async def test_what_needs_a_broker_is_refused(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    with pytest.raises(CapabilityError, match="inline mode runs jobs at once"):
        await work.options(delay="1s").publish()
    with pytest.raises(UnknownQueueError, match="not declared"):
        await work.options(queue="nowhere").publish()
    with pytest.raises(UnknownJobError, match="no job named 'elsewhere'"):
        await bq.publish("elsewhere", {}, queue="default")


async def test_a_handle_answers_for_its_own_job_only(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    handle = await work.publish()
    handle.id = "another"
    with pytest.raises(ResultUnavailableError, match="is not the one that ran inline"):
        await handle.status()
