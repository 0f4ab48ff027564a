"""The publisher needs the job's name, not its code."""

from __future__ import annotations

import pytest

from brokerq import BrokerQ
from brokerq.errors import PayloadError, UnknownJobError


async def test_publish_by_name(bq: BrokerQ) -> None:
    @bq.job()
    async def add(first: int, second: int) -> int:
        return first + second

    handle = await bq.publish("add", {"first": 2, "second": 3})
    await bq.run_worker(burst=True)
    assert await handle.result() == 5


async def test_where_the_code_is_known_the_arguments_are_checked(bq: BrokerQ) -> None:
    @bq.job()
    async def add(first: int, second: int) -> int:
        return first + second

    with pytest.raises(PayloadError, match="parameter 'second' is missing"):
        await bq.publish("add", {"first": 2})


async def test_two_programs_meet_at_the_broker() -> None:
    web = BrokerQ("shop", url="memory://story")
    worker = BrokerQ("shop", url="memory://story")

    @worker.job(queue="sums")
    async def add(first: int, second: int) -> int:
        return first + second

    async with worker, web:
        with pytest.raises(UnknownJobError, match="name its queue="):
            await web.publish("add", {"first": 2, "second": 3})
        handle = await web.publish("add", {"first": 2, "second": 3}, queue="sums")
        await worker.run_worker(burst=True)
        assert await handle.result() == 5
