"""A job is a function that somebody else runs later."""

from __future__ import annotations

from brokerq import BrokerQ


async def test_publish_run_and_look_at_the_result(bq: BrokerQ) -> None:
    @bq.job()
    async def add(first: int, second: int) -> int:
        return first + second

    handle = await add.publish(2, second=3)  # returns once the broker has the job
    await bq.run_worker(burst=True)  # burst: return when nothing is left to do

    assert await handle.result() == 5


async def test_the_job_is_still_the_function(bq: BrokerQ) -> None:
    @bq.job()
    async def add(first: int, second: int) -> int:
        return first + second

    assert await add(2, 3) == 5  # a call; nothing is published


async def test_a_plain_function_is_a_job_too(bq: BrokerQ) -> None:
    """It runs in a thread, so it may block."""

    @bq.job()
    def shout(text: str) -> str:
        return text.upper()

    handle = await shout.publish("hello")
    await bq.run_worker(burst=True)
    assert await handle.result() == "HELLO"


async def test_many_jobs_are_published_in_one_go(bq: BrokerQ) -> None:
    @bq.job()
    async def double(number: int) -> int:
        return 2 * number

    handles = await double.publish_many(double.arguments(number) for number in range(100))
    await bq.run_worker(burst=True)
    assert [await handle.result() for handle in handles] == list(range(0, 200, 2))
