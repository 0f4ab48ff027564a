"""What must not stop a worker, nor cost a job that is not to blame."""

import asyncio
import logging
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from subprocess import run as run_program
from textwrap import dedent
from typing import Any

import pytest
from brokerq_memory import MemoryStore
from brokerq_sqlite import SqliteStore

from brokerq import BrokerQ, Event, JobHandle, RetryPolicy, Snooze
from brokerq.broker import Outgoing, QueueStats
from brokerq.catalogue import NotRedriven, Redrive
from brokerq.engine.idleness import inspectable
from brokerq.engine.lanes import LaneReader
from brokerq.errors import ConnectionLostError, PublishError
from brokerq.record import Hold
from brokerq.redriving import resume_redrives
from tests.engine.conftest import (
    AT_ONCE,
    ONCE,
    SHORT_LEASE,
    Place,
    eventually,
    letters_of,
    working,
)


@pytest.mark.parametrize(
    ("header", "text"),
    [
        pytest.param("bq_max_attempts", "0", id="no attempt at all"),
        pytest.param("bq_key", "\ud800", id="half a surrogate pair"),
        pytest.param("bq_id", "\ud800", id="an id of half a surrogate pair"),
    ],
)
async def test_a_header_that_makes_no_sense_kills_its_message_only(
    place: Place, bq: BrokerQ, header: str, text: str
) -> None:
    @bq.job()
    async def work() -> None:
        pass

    await bq.open()
    await place.send(b"{}", bq_job="work", **{header: text})
    handle = await work.publish()

    await bq.run_worker(burst=True)

    assert (await handle.status()).state == "succeeded"
    [letter] = await letters_of(bq)
    assert letter.reason == "undecodable"


async def test_an_instant_at_the_end_of_time_does_no_harm(place: Place, bq: BrokerQ) -> None:
    @bq.job()
    async def work() -> None:
        pass

    await bq.open()
    job_id = await place.send(b"{}", bq_job="work", bq_first_at="9999-12-31T23:59:59+00:00")

    await bq.run_worker(burst=True)

    assert (await bq.jobs.status(job_id)).state == "succeeded"


async def test_messages_with_an_empty_id_are_not_one_job(place: Place, bq: BrokerQ) -> None:
    seen: list[int] = []

    @bq.job()
    async def work(number: int) -> None:
        seen.append(number)

    await bq.open()
    for number in (1, 2):
        await place.send(b'{"number": %d}' % number, bq_job="work", bq_id="")

    await bq.run_worker(burst=True)

    assert sorted(seen) == [1, 2]


async def test_a_delay_beyond_all_time_does_no_harm(bq: BrokerQ) -> None:
    @bq.job()
    async def sleepy() -> None:
        raise Snooze(timedelta.max)

    handle = await sleepy.publish()

    async with working(bq):
        await eventually(lambda: _waits(handle))


async def _waits(handle: JobHandle[None]) -> bool:
    return (await handle.status()).state == "scheduled"


@pytest.mark.parametrize("end", ["raise RuntimeError('over')", "return"])
def test_a_program_that_just_ends_gives_its_jobs_back(tmp_path: Path, end: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        dedent(f"""
        import asyncio
        from brokerq import BrokerQ

        bq = BrokerQ("shop", url="sqlite:///{tmp_path}/jobs.db")

        @bq.job()
        async def slow() -> None:
            await asyncio.sleep(60)

        async def main() -> None:
            global handle
            handle = await slow.publish()
            worker = asyncio.create_task(bq.run_worker())
            while (await handle.status()).state != "running":
                await asyncio.sleep(0.01)
            {end}

        async def look() -> None:
            view = await handle.status()
            print(view.state, view.attempts, view.crashes)
            print([stats.ready for stats in await bq.queues.stats()])

        try:
            asyncio.run(main())
        except RuntimeError as exc:
            print(exc)
        asyncio.run(look())
        bq.close_sync()
        """)
    )

    done = run_program(
        [sys.executable, program], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.stdout.splitlines()[-2:] == ["queued 0 0", "[1]"], done.stderr
    assert not done.stderr


def test_a_thread_keeps_its_job_when_the_program_just_ends(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        dedent(f"""
        import asyncio
        import time
        from brokerq import BrokerQ, Context

        bq = BrokerQ("shop", url="sqlite:///{tmp_path}/jobs.db")

        @bq.job()
        def slow(ctx: Context) -> None:
            while not ctx.cancelled:
                time.sleep(0.01)
            time.sleep(0.2)

        async def main() -> None:
            global handle
            handle = await slow.publish()
            worker = asyncio.create_task(bq.run_worker())
            while (await handle.status()).state != "running":
                await asyncio.sleep(0.01)

        async def look() -> None:
            view = await handle.status()
            print(view.state, view.attempts, view.crashes)

        asyncio.run(main())
        asyncio.run(look())
        bq.close_sync()
        """)
    )

    done = run_program(
        [sys.executable, program], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.stdout == "succeeded 1 0\n", done.stderr
    assert not done.stderr


async def test_a_lane_that_does_not_answer_costs_nobody_the_stores_lease(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bq = place.app(retry=AT_ONCE)
    bq.queue("default", lease=SHORT_LEASE)
    renewed = 0

    @bq.job()
    async def slow() -> None:
        await eventually(lambda: renewed >= 2)

    async def hang(_reader: LaneReader) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(LaneReader, "extend", hang)
    store = MemoryStore if place.url.startswith("memory") else SqliteStore
    renew = store.renew

    async def count(*args: Any, **kwargs: Any) -> Sequence[Hold]:
        nonlocal renewed
        answers = await renew(*args, **kwargs)
        renewed += 1
        return answers

    monkeypatch.setattr(store, "renew", count)
    handle = await slow.publish()

    async with working(bq):
        view = await handle.wait("8s")

    assert view.state == "succeeded"


async def test_the_last_of_so_many_jobs_may_take_longer_than_the_grace(bq: BrokerQ) -> None:
    @bq.job()
    async def slow() -> None:
        await asyncio.sleep(0.3)

    for _ in range(3):
        await slow.publish()

    report = await bq.process(max_jobs=2, grace="10ms")

    assert report.outcomes == {"succeeded": 2}
    [stats] = await bq.queues.stats()
    assert (stats.ready, stats.in_flight) == (1, 0)


async def test_one_letter_that_cannot_be_redriven_holds_up_no_other(
    bq: BrokerQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = True

    @bq.job(retry=ONCE)
    async def work() -> None:
        if failing:
            raise ValueError

    stuck, other = await work.publish(), await work.publish()
    await bq.run_worker(burst=True)
    failing = False
    runtime = await bq.jobs.session.call(bq.jobs.session.runtime())
    publish = runtime.broker.publish

    async def refuse_one(messages: Sequence[Outgoing]) -> None:
        await publish([message for message in messages if message.id != stuck.id])
        places = [n for n, message in enumerate(messages) if message.id == stuck.id]
        if places:
            raise PublishError("its queue is not declared", failed=places)

    monkeypatch.setattr("brokerq.redriving.LEASE", timedelta(0))
    with monkeypatch.context() as patch:
        patch.setattr(runtime.broker, "publish", refuse_one)
        answers = await bq.dead_letters.redrive([stuck.id, other.id], by="me")
        await bq.run_worker(burst=True)

    assert isinstance(answers[0], NotRedriven)
    assert "its queue is not declared" in answers[0].why
    assert isinstance(answers[1], Redrive)
    assert (await other.status()).state == "succeeded"
    assert runtime.store is not None
    assert await bq.jobs.session.call(resume_redrives(runtime.broker, runtime.store)) == 1
    await bq.run_worker(burst=True)
    assert (await stuck.status()).state == "succeeded"


async def test_a_burst_goes_on_when_its_broker_is_away_for_a_moment(
    bq: BrokerQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    @bq.job()
    async def work() -> None:
        pass

    handle = await work.publish()
    runtime = await bq.jobs.session.call(bq.jobs.session.runtime())
    stats = inspectable(runtime.broker).stats
    refused = 0

    async def away(queues: Sequence[str]) -> Sequence[QueueStats]:
        nonlocal refused
        if refused < 3:
            refused += 1
            raise ConnectionLostError("the broker is away")
        return await stats(queues)

    monkeypatch.setattr(runtime.broker, "stats", away)

    report = await asyncio.wait_for(bq.run_worker(burst=True), 10)

    assert refused == 3
    assert report.outcomes == {"succeeded": 1}
    assert (await handle.status()).state == "succeeded"


async def test_a_listener_that_ends_in_a_cancellation_changes_nothing(
    bq: BrokerQ, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    @bq.job()
    async def work() -> None:
        pass

    @bq.on("succeeded")
    async def broken(_event: Event) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    @bq.on("succeeded")
    async def listen(event: Event) -> None:
        heard.append(event.job_id)

    handle = await work.publish()
    with caplog.at_level(logging.ERROR, "brokerq.hooks"):
        await bq.run_worker(burst=True)

    assert heard == [handle.id]
    assert "was cancelled" in caplog.text


async def test_the_budget_of_one_publish_goes_before_the_policys_stop(place: Place) -> None:
    tenacity = pytest.importorskip("tenacity")
    bq = place.app(retry=RetryPolicy(initial="1ms", stop=tenacity.stop_after_attempt(5)))
    runs = 0

    @bq.job()
    async def work() -> None:
        nonlocal runs
        runs += 1
        raise ValueError

    await work.options(max_attempts=2).publish()
    await bq.run_worker(burst=True)

    assert runs == 2


async def test_without_a_store_two_of_one_job_in_one_batch_run_once(place: Place) -> None:
    bq = place.app(store_url="none://", retry=AT_ONCE)
    runs = 0

    @bq.job()
    async def work() -> None:
        nonlocal runs
        runs += 1

    await bq.open()
    for _ in range(2):
        await place.send(b"{}", bq_job="work", bq_id="one")

    report = await bq.run_worker(burst=True)

    assert runs == 1
    assert report.outcomes == {"succeeded": 1}
