"""One app and its connections: opened late, used from anywhere, closed often; or two of them."""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from brokerq import BrokerQ, Job, JobFilter, State
from brokerq.errors import BrokerqError, ConfigurationError
from tests.engine.conftest import ONCE, Place, working


@pytest.fixture
def add(bq: BrokerQ) -> Job[[int, int], int]:
    @bq.job()
    async def add(first: int, second: int) -> int:
        return first + second

    return add


def test_code_without_a_loop_uses_the_same_app(place: Place) -> None:
    bq = place.app()

    @bq.job()
    def add(first: int, second: int) -> int:
        return first + second

    handle = add.publish_sync(2, second=3)
    assert handle.status_sync().state == State.QUEUED
    asyncio.run(bq.run_worker(burst=True))
    assert handle.result_sync(timeout="1s") == 5
    assert bq.publish_sync("add", {"first": 1, "second": 1}).cancel_sync() == "cancelled"
    assert len(add.publish_many_sync([add.arguments(1, 2), add.arguments(3, 4)])) == 2
    bq.close_sync()


async def test_code_that_is_not_async_may_run_within_a_loop(
    bq: BrokerQ, add: Job[[int, int], int]
) -> None:
    async with working(bq):
        handle = add.publish_sync(2, 3)  # blocks the loop, not the engine
        assert handle.status_sync().state in {State.QUEUED, State.RUNNING, State.SUCCEEDED}
        assert await asyncio.to_thread(handle.result_sync, "5s") == 5


async def test_many_threads_publish_at_once(bq: BrokerQ, add: Job[[int, int], int]) -> None:
    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(add.publish_sync, range(40), [1] * 40))
    assert len({handle.id for handle in handles}) == 40
    await bq.run_worker(burst=True)
    assert [await handle.result() for handle in handles] == [n + 1 for n in range(40)]


async def test_several_loops_share_one_app(bq: BrokerQ, add: Job[[int, int], int]) -> None:
    def publish(number: int) -> str:
        return asyncio.run(add.publish(number, 2)).id

    with ThreadPoolExecutor(4) as threads:
        ids = list(threads.map(publish, range(8)))
    assert len(await bq.jobs.search(JobFilter(), limit=100)) == len(set(ids)) == 8


async def test_opening_and_closing_again_and_again(
    bq: BrokerQ, place: Place, add: Job[[int, int], int]
) -> None:
    threads = threading.active_count()
    async with place.app():  # keeps what is in memory, if it is
        for number in range(10):
            async with bq:
                await add.publish(number, 1)
            await bq.close()
        await add.publish(99, 1)  # opens by itself
        assert len(await bq.jobs.search(JobFilter(), limit=100)) == 11
        await bq.close()
    assert threading.active_count() <= threads + 2  # the test's own pool


async def test_closing_ten_times_at_once_is_closing_once(
    bq: BrokerQ, add: Job[[int, int], int]
) -> None:
    await add.publish(1, 2)
    await asyncio.wait_for(asyncio.gather(*(bq.close() for _ in range(10))), 30)
    await add.publish(3, 4)
    assert len(await bq.jobs.search(JobFilter(), limit=10)) == 2


async def test_what_is_under_way_when_the_app_closes_ends_one_way_or_the_other(
    bq: BrokerQ, add: Job[[int, int], int]
) -> None:
    confirmed = 0
    for _ in range(5):
        await bq.open()
        publishes = [asyncio.create_task(add.publish(n, 1)) for n in range(20)]
        await asyncio.sleep(0)
        await bq.close()
        answers = await asyncio.wait_for(asyncio.gather(*publishes, return_exceptions=True), 30)
        assert not [a for a in answers if isinstance(a, Exception) and not _is_ours(a)]
        confirmed += sum(not isinstance(answer, BaseException) for answer in answers)
    assert len(await bq.jobs.search(JobFilter(), limit=200)) >= confirmed


def _is_ours(error: Exception) -> bool:
    return isinstance(error, BrokerqError)


async def test_two_apps_in_one_process_do_not_meet(place: Place) -> None:
    ran: list[str] = []
    apps = {name: place.app(name) for name in ("shop", "depot")}
    for bq in apps.values():

        @bq.job()
        async def work(name: str) -> None:
            ran.append(name)

    handles = [await bq.publish("work", {"name": name}) for name, bq in apps.items()]
    await apps["depot"].run_worker(burst=True)
    assert ran == ["depot"]
    assert (await handles[0].status()).state == State.QUEUED
    with pytest.raises(BrokerqError, match="no job"):
        await apps["depot"].jobs.status(handles[0].id)
    async with working(apps["shop"]), working(apps["depot"]):
        await handles[0].wait("30s")
    assert ran == ["depot", "shop"]


async def test_jobs_declared_after_the_app_was_opened_work(bq: BrokerQ) -> None:
    await bq.open()

    @bq.job(queue="late")
    async def work() -> str:
        return "late"

    handle = await work.publish()
    await bq.run_worker(burst=True)
    assert await handle.result() == "late"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_an_app_opened_before_a_fork_is_refused_in_the_child(
    bq: BrokerQ, add: Job[[int, int], int]
) -> None:
    await add.publish(1, 2)
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: there are threads
        child = os.fork()
    if not child:
        try:
            add.publish_sync(3, 4)
        except ConfigurationError as exc:
            os.write(writer, str(exc).encode())
        finally:
            os._exit(0)
    os.close(writer)
    text = await asyncio.to_thread(os.read, reader, 1000)
    await asyncio.to_thread(os.waitpid, child, 0)
    os.close(reader)
    assert b"Open it after the fork" in text
    assert len(await bq.jobs.search(JobFilter(), limit=10)) == 1


async def test_a_sync_call_from_the_engines_own_thread_is_refused(
    bq: BrokerQ, add: Job[[int, int], int]
) -> None:
    refused: list[str] = []

    @bq.on("published")
    def publish_another(_event: object) -> None:
        try:
            add.publish_sync(1, 1)
        except ConfigurationError as exc:
            refused.append(str(exc))

    await asyncio.wait_for(add.publish(1, 2), 30)
    assert "use the asynchronous method" in refused[0]


async def test_closing_an_app_stops_its_worker_first(bq: BrokerQ) -> None:
    begun = asyncio.Event()

    @bq.job(retry=ONCE)
    async def work() -> None:
        begun.set()
        await asyncio.sleep(60)

    handle = await work.publish()
    worker = asyncio.create_task(bq.run_worker())
    await begun.wait()
    await asyncio.wait_for(bq.close(), 30)
    report = await asyncio.wait_for(worker, 30)
    assert report.outcomes == {"queued": 1}
    view = await handle.status()
    assert (view.state, view.attempts, view.crashes) == (State.QUEUED, 0, 0)
