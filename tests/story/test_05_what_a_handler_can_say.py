"""An exception is a failure. Four of them say something else."""

from __future__ import annotations

from brokerq import BrokerQ, Context, Drop, Reject, RetryAfter, RetryPolicy, Snooze, State


async def test_reject_never_tries_again(bq: BrokerQ) -> None:
    @bq.job()
    async def charge(cents: int) -> None:
        raise Reject("amount must be positive")

    handle = await charge.publish(-5)
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert (view.state, view.attempts) == (State.DEAD, 1)


async def test_retry_after_says_when(bq: BrokerQ) -> None:
    """For a service that answers "come back in a minute". It counts as an attempt."""

    @bq.job()
    async def call(ctx: Context) -> int:
        if ctx.attempt == 1:
            raise RetryAfter("20ms")
        return ctx.attempt

    handle = await call.publish()
    await bq.run_worker(burst=True)
    assert await handle.result() == 2


async def test_snooze_is_no_failure(bq: BrokerQ) -> None:
    looks: list[int] = []

    @bq.job()
    async def wait_for_file(ctx: Context) -> int:
        looks.append(ctx.attempt)
        if len(looks) < 4:
            raise Snooze("10ms", "the file is not there yet")
        return ctx.attempt

    handle = await wait_for_file.publish()
    await bq.run_worker(burst=True)
    assert looks == [1, 1, 1, 1]
    assert await handle.result() == 1


async def test_drop_ends_a_job_that_nobody_needs_any_more(bq: BrokerQ) -> None:
    @bq.job()
    async def remind() -> None:
        raise Drop("the invoice is paid")

    handle = await remind.publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert (view.state, view.note) == (State.SKIPPED, "the invoice is paid")


async def test_a_policy_can_say_it_for_other_peoples_exceptions(bq: BrokerQ) -> None:
    policy = RetryPolicy(on={PermissionError: "reject", FileNotFoundError: "drop"})

    @bq.job(retry=policy)
    async def read(error: str) -> None:
        raise PermissionError if error == "permission" else FileNotFoundError

    locked, missing = await read.publish("permission"), await read.publish("file")
    await bq.run_worker(burst=True)
    assert (await locked.status()).state == State.DEAD
    assert (await missing.status()).state == State.SKIPPED
