"""One message delivered twice, one key published twice: the effect is recorded once."""

from __future__ import annotations

import asyncio

import pytest

from brokerq import BrokerQ, JobFilter, State, settlement
from brokerq.catalogue import NotRedriven
from brokerq.engine import intake
from brokerq.errors import KeyConflictError
from tests.engine.conftest import (
    AT_ONCE,
    ONCE,
    SHORT_LEASE,
    Place,
    eventually,
    in_ms,
    letters_of,
    working,
)


async def send_again(place: Place, bq: BrokerQ, job_id: str) -> None:
    """Put the job's message into the broker once more, as a redelivery would."""
    view = await bq.jobs.status(job_id)
    assert view.message is not None
    headers = {name.replace("-", "_"): text for name, text in view.message.headers.items()}
    await place.send(view.message.body, message_id=job_id, **headers)


async def test_a_duplicate_in_the_same_process_shares_the_fate(place: Place) -> None:
    bq = place.app(retry=AT_ONCE)
    runs: list[str] = []
    begun, gate = asyncio.Event(), asyncio.Event()

    @bq.job()
    async def work() -> str:
        runs.append("run")
        begun.set()
        await gate.wait()
        return "done"

    handle = await work.publish()
    async with working(bq):
        await begun.wait()
        await send_again(place, bq, handle.id)
        await eventually(lambda: _in_flight(bq, 2))
        gate.set()
        assert await handle.result("30s") == "done"
        await eventually(lambda: _in_flight(bq, 0))
    assert runs == ["run"]
    assert (await bq.run_worker(burst=True)).outcomes == {}


async def test_many_duplicates_of_a_long_job_take_up_little_room(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those beyond a few come again later; once the job has ended they are dropped as well."""
    monkeypatch.setattr(intake, "MOST_FOLLOWERS", 2)
    monkeypatch.setattr(settlement, "BUSY_FLOOR", in_ms(50))
    bq = place.app()
    bq.queue("default", lease=SHORT_LEASE)
    runs: list[str] = []
    begun, gate = asyncio.Event(), asyncio.Event()

    @bq.job()
    async def work() -> None:
        runs.append("run")
        begun.set()
        await gate.wait()

    async def all_but_three_are_put_off() -> bool:
        [stats] = await bq.queues.stats(["default"])
        return (stats.ready, stats.in_flight, stats.delayed) == (0, 3, 3)

    handle = await work.publish()
    async with working(bq):
        await begun.wait()
        for _ in range(5):
            await send_again(place, bq, handle.id)
        await eventually(all_but_three_are_put_off)
        gate.set()
        assert (await handle.wait("30s")).state == State.SUCCEEDED
    await bq.run_worker(burst=True)
    assert runs == ["run"]


async def _in_flight(bq: BrokerQ, count: int) -> bool:
    [stats] = await bq.queues.stats(["default"])
    return stats.in_flight == count and stats.ready == 0


async def test_a_duplicate_of_what_has_ended_is_dropped(place: Place) -> None:
    bq = place.app()
    runs: list[str] = []

    @bq.job()
    async def work() -> None:
        runs.append("run")

    handle = await work.publish()
    await bq.run_worker(burst=True)
    await send_again(place, bq, handle.id)
    await bq.run_worker(burst=True)
    assert runs == ["run"]
    assert len((await handle.status()).history) == 3


async def test_a_duplicate_of_a_dead_job_makes_no_second_letter(place: Place) -> None:
    bq = place.app(retry=ONCE)

    @bq.job()
    async def work() -> None:
        raise ValueError

    handle = await work.publish()
    await bq.run_worker(burst=True)
    await send_again(place, bq, handle.id)
    await bq.run_worker(burst=True)
    [letter] = await letters_of(bq)
    assert letter.job_id == handle.id
    assert (await handle.status()).attempts == 1


async def test_a_job_that_another_process_runs_is_released_until_it_has_ended(
    place: Place,
) -> None:
    one, two = place.app(), place.app()
    runs: list[str] = []
    begun, gate = asyncio.Event(), asyncio.Event()
    for bq in (one, two):
        bq.queue("default", lease="300ms")

    @one.job(name="work")
    async def work() -> str:
        runs.append("one")
        begun.set()
        await gate.wait()
        return "done"

    @two.job(name="work")
    async def other() -> None:
        runs.append("two")

    handle = await work.publish()
    async with working(one, concurrency=1):
        await begun.wait()
        await send_again(place, one, handle.id)
        async with working(two):
            await eventually(lambda: _delayed(one, 1))
            gate.set()
            assert await handle.result("30s") == "done"
            await eventually(lambda: _delayed(one, 0))
            await eventually(lambda: _in_flight(one, 0))
    assert runs == ["one"]


async def _delayed(bq: BrokerQ, count: int) -> bool:
    [stats] = await bq.queues.stats(["default"])
    return stats.delayed == count


async def test_a_key_is_published_once_while_it_is_held(bq: BrokerQ) -> None:
    runs: list[str] = []

    @bq.job(idempotency_key="order")
    async def pay(order: str, cents: int) -> None:
        runs.append(order)

    first = await pay.publish("o-1", 5)
    same = await asyncio.gather(*(pay.publish("o-1", 5) for _ in range(10)))
    assert {handle.id for handle in same} == {first.id}
    assert all(handle.duplicate for handle in same)
    await bq.run_worker(burst=True)
    assert (await pay.publish("o-1", 5)).duplicate
    assert runs == ["o-1"]
    assert len(await bq.jobs.search(JobFilter(), limit=10)) == 1


async def test_ten_publishers_at_once_make_one_job(place: Place) -> None:
    apps = [place.app() for _ in range(3)]
    for bq in apps:

        @bq.job(idempotency_key="order")
        async def pay(order: str) -> None: ...

    publishes = (apps[n % 3].publish("pay", {"order": "o-1"}) for n in range(10))
    handles = await asyncio.gather(*publishes)
    assert len({handle.id for handle in handles}) == 1
    assert [handle.duplicate for handle in handles].count(False) == 1


async def test_another_payload_under_the_key_is_a_conflict_that_names_the_holder(
    bq: BrokerQ,
) -> None:
    @bq.job(idempotency_key="order")
    async def pay(order: str, cents: int) -> None: ...

    first = await pay.publish("o-1", 5)
    with pytest.raises(KeyConflictError, match=f"'o-1' of 'pay' is held by job {first.id}") as info:
        await pay.publish("o-1", 6)
    assert info.value.job_id == first.id


async def test_a_conflict_among_many_leaves_the_others_published(bq: BrokerQ) -> None:
    paid: list[tuple[str, int]] = []

    @bq.job(idempotency_key="order")
    async def pay(order: str, cents: int) -> None:
        paid.append((order, cents))

    await pay.publish("o-1", 5)
    with pytest.raises(KeyConflictError):
        await pay.publish_many(pay.arguments(order, 6) for order in ("o-0", "o-1", "o-2"))
    await bq.run_worker(burst=True)
    assert sorted(paid) == [("o-0", 6), ("o-1", 5), ("o-2", 6)]


async def test_a_death_frees_the_key_and_a_redrive_takes_it_again(bq: BrokerQ) -> None:
    broken = [True]

    @bq.job(idempotency_key="order", retry=ONCE)
    async def pay(order: str) -> str:
        if broken:
            raise ValueError
        return order

    dead = await pay.publish("o-1")
    await bq.run_worker(burst=True)
    broken.clear()
    await bq.dead_letters.redrive([dead.id], by="the test")
    assert (await pay.publish("o-1")).id == dead.id
    await bq.run_worker(burst=True)
    assert await dead.result() == "o-1"


async def test_a_redrive_is_refused_where_another_job_has_the_key(bq: BrokerQ) -> None:
    broken = [True]

    @bq.job(idempotency_key="order", retry=ONCE)
    async def pay(order: str) -> str:
        if broken:
            raise ValueError
        return order

    dead = await pay.publish("o-1")
    await bq.run_worker(burst=True)
    broken.clear()
    second = await pay.publish("o-1")
    assert second.id != dead.id
    await bq.run_worker(burst=True)
    [refusal] = await bq.dead_letters.redrive([dead.id], by="the test")
    assert isinstance(refusal, NotRedriven)
    assert "key" in refusal.why
    assert (await dead.status()).state == State.DEAD
