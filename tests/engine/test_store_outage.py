"""While the store is away jobs wait, unless they were declared to run all the same."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from brokerq import BrokerQ, Context, LetterFilter, Limits, Reject, State
from tests.engine.conftest import AT_ONCE, Outage, Place, eventually, working


async def test_jobs_wait_and_use_up_no_attempt(bq: BrokerQ, outage: Outage) -> None:
    attempts: list[int] = []

    @bq.job()
    async def work(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        return "done"

    handle = await work.publish()
    outage.on = True
    async with working(bq):
        await eventually(lambda: outage.refused >= 2)
        assert attempts == []
        outage.on = False
        assert await handle.result("30s") == "done"
    assert attempts == [1]
    assert (await handle.status()).crashes == 0


async def test_what_ran_is_recorded_when_the_store_is_back(bq: BrokerQ, outage: Outage) -> None:
    runs: list[str] = []

    @bq.job()
    async def work() -> str:
        runs.append("run")
        outage.on = True
        return "done"

    handle = await work.publish()
    async with working(bq):
        await eventually(lambda: outage.refused >= 2)
        outage.on = False
        assert await handle.result("30s") == "done"
    assert runs == ["run"]


async def test_a_job_may_run_without_its_records(bq: BrokerQ, outage: Outage) -> None:
    ran: list[int] = []

    @bq.job(on_store_error="run")
    async def urgent(ctx: Context) -> None:
        ran.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError

    @bq.job()
    async def patient() -> None:
        ran.append(99)

    await urgent.publish()
    waiting = await patient.publish()
    outage.on = True
    async with working(bq):
        await eventually(lambda: ran == [1, 2])
        outage.on = False
        await waiting.wait("30s")
    assert ran == [1, 2, 99]


async def test_what_runs_without_its_records_waits_for_no_record_of_others(
    place: Place, outage: Outage
) -> None:
    bq = place.app()
    begun, gate = asyncio.Event(), asyncio.Event()

    @bq.job()
    async def patient() -> None:
        begun.set()
        await gate.wait()

    @bq.job(on_store_error="run")
    async def urgent() -> None: ...

    async def only_the_patient_one_is_left() -> bool:
        [stats] = await bq.queues.stats(["default"])
        return (stats.ready, stats.in_flight) == (0, 1)

    waiting = await patient.publish()
    async with working(bq):
        await begun.wait()
        outage.on = True
        gate.set()
        await eventually(lambda: outage.refused >= 2)
        for _ in range(20):
            await urgent.publish()
        await eventually(only_the_patient_one_is_left)
        outage.on = False
        assert (await waiting.wait("30s")).state == State.SUCCEEDED


async def test_a_job_that_ran_without_its_records_is_recorded_when_the_store_is_back(
    bq: BrokerQ, outage: Outage
) -> None:
    """Else its key would be held for ever by a job that never ends."""

    @bq.job(on_store_error="run", idempotency_key="number")
    async def urgent(number: int) -> int:
        if number < 0:
            raise Reject("negative")
        return number

    good, bad = await urgent.publish(1), await urgent.publish(-1)
    outage.on = True
    async with working(bq):
        await eventually(lambda: outage.refused >= 2)
        outage.on = False
        assert await good.result("30s") == 1
        assert (await bad.wait("30s")).state == State.DEAD
    assert (await urgent.publish(1)).duplicate
    assert not (await urgent.publish(-1)).duplicate
    [letter] = await bq.dead_letters.search(LetterFilter(), limit=10)
    assert (letter.job_id, letter.reason) == (bad.id, "rejected")


async def test_an_unknown_job_survives_an_outage(place: Place, outage: Outage) -> None:
    bq = place.app(retry=AT_ONCE, limits=Limits(unknown_wait=timedelta(milliseconds=50)))

    @bq.job()
    async def known() -> None: ...

    handle = await bq.publish("unknown", {}, queue="default")
    outage.on = True
    async with working(bq):
        await eventually(lambda: outage.refused >= 2)
        outage.on = False
        assert (await handle.wait("30s")).state == State.DEAD
