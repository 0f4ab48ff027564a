"""A result that cannot be kept does not undo the job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from brokerq import BrokerQ, Limits, State
from brokerq.errors import JobFailedError, ResultUnavailableError, WaitTimeoutError
from tests.engine.conftest import ONCE, Place


@dataclass
class Receipt:
    number: int
    paid: bool


async def test_a_result_arrives_as_json_gives_it(bq: BrokerQ) -> None:
    @bq.job()
    async def pay() -> Receipt:
        return Receipt(7, paid=True)

    job_id = (await pay.publish()).id
    await bq.run_worker(burst=True)
    assert await bq.handle(job_id).result() == {"number": 7, "paid": True}


async def test_none_is_a_result(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    job_id = (await work.publish()).id
    await bq.run_worker(burst=True)
    assert await bq.handle(job_id).result(timeout="1s") is None


async def test_a_result_that_is_no_json_is_noted_and_the_job_succeeded(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> object:
        return object()

    handle = await work.publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert view.state == State.SUCCEEDED
    with pytest.raises(ResultUnavailableError, match=r"work: the result \(object\) cannot be"):
        await handle.result()


async def test_a_result_that_is_too_large_is_noted_and_the_job_succeeded(place: Place) -> None:
    bq = place.app(limits=Limits(max_result=100))

    @bq.job()
    async def work(size: int) -> str:
        return "x" * size

    fits, large = await work.publish(98), await work.publish(99)
    await bq.run_worker(burst=True)
    assert await fits.result() == "x" * 98
    with pytest.raises(ResultUnavailableError, match="has 101 bytes, 100 are kept"):
        await large.result()
    assert (await large.status()).state == State.SUCCEEDED


async def test_a_result_past_its_time_is_gone_and_the_job_still_shown(place: Place) -> None:
    bq = place.app(limits=Limits(keep_result=timedelta(milliseconds=1)))

    @bq.job()
    async def work() -> int:
        return 5

    handle = await work.publish()
    await bq.run_worker(burst=True)
    with pytest.raises(ResultUnavailableError, match="past its time"):
        await handle.result()
    assert (await handle.status()).state == State.SUCCEEDED


async def test_waiting_has_a_limit_and_the_job_goes_on(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> int:
        return 5

    handle = await work.publish()
    with pytest.raises(WaitTimeoutError, match="had not ended after"):
        await handle.result(timeout="20ms")
    await bq.run_worker(burst=True)
    assert await handle.result(timeout="1s") == 5


async def test_a_job_that_failed_has_no_result_and_says_why(bq: BrokerQ) -> None:
    @bq.job(retry=ONCE)
    async def work() -> None:
        raise ValueError("no luck")

    handle = await work.publish()
    await bq.run_worker(burst=True)
    with pytest.raises(JobFailedError, match="ended as dead") as info:
        await handle.result()
    assert info.value.state == "dead"
