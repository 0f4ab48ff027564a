"""A job that fails is tried again, a little later each time, and not for ever."""

from __future__ import annotations

from itertools import pairwise

from brokerq import BrokerQ, Context, RetryPolicy, State

QUICK = RetryPolicy(max_attempts=3, backoff="exponential", initial="10ms", jitter="none")


async def test_a_job_that_fails_is_tried_again(bq: BrokerQ) -> None:
    @bq.job(retry=QUICK)
    async def flaky(ctx: Context) -> str:
        if ctx.attempt < 3:
            raise ConnectionError("the other side is not there")
        return f"attempt {ctx.attempt} of {ctx.max_attempts}"

    handle = await flaky.publish()
    await bq.run_worker(burst=True)
    assert await handle.result() == "attempt 3 of 3"
    assert [step.state for step in (await handle.status()).history] == [
        "queued",
        "running",
        "retrying",
        "running",
        "retrying",
        "running",
        "succeeded",
    ]


async def test_after_the_last_attempt_it_is_dead(bq: BrokerQ) -> None:
    @bq.job(retry=QUICK)
    async def hopeless() -> None:
        raise ConnectionError("the other side is not there")

    handle = await hopeless.publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert view.state == State.DEAD
    assert view.attempts == 3
    assert view.failure is not None
    assert view.failure.type == "ConnectionError"


async def test_the_waits_grow(bq: BrokerQ) -> None:
    policy = RetryPolicy(max_attempts=3, initial="20ms", factor=2, jitter="none")

    @bq.job(retry=policy)
    async def hopeless() -> None:
        raise ConnectionError

    handle = await hopeless.publish()
    await bq.run_worker(burst=True)
    began = [step.at for step in (await handle.status()).history if step.state == State.RUNNING]
    first, second = (later - earlier for earlier, later in pairwise(began))
    assert first.total_seconds() >= 0.020
    assert second.total_seconds() >= 0.040
