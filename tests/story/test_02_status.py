"""Every job can be asked where it stands, at any time."""

from __future__ import annotations

import pytest

from brokerq import BrokerQ, JobFilter, State
from brokerq.errors import NotFoundError, WaitTimeoutError


async def test_a_job_goes_from_queued_to_succeeded(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> str:
        return "done"

    handle = await work.publish()
    assert (await handle.status()).state == State.QUEUED

    await bq.run_worker(burst=True)
    view = await handle.status()
    assert view.state == State.SUCCEEDED
    assert view.attempts == 1
    assert [step.state for step in view.history] == ["queued", "running", "succeeded"]


async def test_waiting_can_have_a_limit(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    handle = await work.publish()
    with pytest.raises(WaitTimeoutError):
        await handle.wait(timeout="10ms")  # nobody runs it


async def test_a_job_is_found_again_by_its_id(bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None: ...

    job_id = (await work.publish()).id
    assert (await bq.handle(job_id).status()).job == "work"
    with pytest.raises(NotFoundError):
        await bq.handle("no-such-id").status()


async def test_jobs_are_searched(bq: BrokerQ) -> None:
    @bq.job(tags=["nightly"])
    async def tidy() -> None: ...

    @bq.job()
    async def other() -> None: ...

    await other.publish()
    await tidy.options(tags=["europe"]).publish()
    [found] = await bq.jobs.search(JobFilter(tag="nightly", states=[State.QUEUED]), limit=10)
    assert found.tags == ("nightly", "europe")
