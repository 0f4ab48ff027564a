"""A handler that asks for the context learns about its job, and can speak about it."""

from __future__ import annotations

from brokerq import BrokerQ, Context


async def test_the_context_comes_first_and_is_not_published(bq: BrokerQ) -> None:
    @bq.job()
    async def work(ctx: Context, number: int) -> str:
        return f"{ctx.job} on {ctx.queue}, attempt {ctx.attempt}, number {number}"

    handle = await work.publish(7)
    await bq.run_worker(burst=True)
    assert await handle.result() == "work on default, attempt 1, number 7"


async def test_what_it_logs_is_kept_with_the_job(bq: BrokerQ) -> None:
    @bq.job()
    async def work(ctx: Context) -> None:
        ctx.log.info("fetching", rows=3)
        ctx.log.warning("slow")

    handle = await work.publish()
    await bq.run_worker(burst=True)
    log = (await handle.status()).log
    assert log is not None
    assert [line.split(" ", 1)[1] for line in log] == ["info fetching rows=3", "warning slow"]


async def test_what_the_publisher_said_arrives(bq: BrokerQ) -> None:
    @bq.job()
    async def work(ctx: Context) -> list[object]:
        return [ctx.correlation, ctx.tags, dict(ctx.headers)]

    options = work.options(correlation="request-7", tags=["nightly"], headers={"shop": "north"})
    job_id = (await options.publish()).id
    await bq.run_worker(burst=True)
    assert await bq.handle(job_id).result() == ["request-7", ["nightly"], {"shop": "north"}]
