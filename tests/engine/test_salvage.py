"""What the broker gives up on by itself ends like everything else: recorded, with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from brokerq import BrokerQ, Event, JobHandle, Letter, RetryPolicy, State
from brokerq.broker import Delivery, Lane, Outgoing, Release, Verdict
from brokerq.message import Message
from tests.engine.conftest import NarrowPlace, eventually, letters_of, working
from tests.narrow import NarrowConsumer, Narrowness

LIMIT = 3
LANE = Lane(queue="default")


@pytest.fixture
def place(narrow: NarrowPlace) -> NarrowPlace:
    narrow.how = Narrowness(gives_up_after=LIMIT)
    return narrow


async def give_up(place: NarrowPlace, *job_ids: str) -> None:
    """Have the broker deliver these messages until it has enough of them."""
    broker = await place.broker()
    left = set(job_ids)
    async with broker.consume(LANE, prefetch=len(left)) as consumer:
        while left:
            for delivery in await consumer.receive(len(left)):
                assert delivery.id in left
                if delivery.count == LIMIT:
                    left.remove(delivery.id)
                await consumer.settle([(delivery, Release())])


async def given_up(place: NarrowPlace, message: Message, job_id: str) -> None:
    """Put a message among those that the broker gave up on."""
    broker = await place.broker()
    await broker.publish([Outgoing(lane=LANE, message=message, id=job_id)])
    await give_up(place, job_id)


async def dead(bq: BrokerQ) -> int:
    [stats] = await bq.queues.stats(["default"])
    return stats.dead


async def test_what_the_broker_gave_up_on_is_a_dead_letter_with_a_reason(
    place: NarrowPlace,
) -> None:
    bq = place.app()
    runs: list[str] = []
    heard: list[tuple[str, str]] = []

    @bq.job(on_dead=[lambda letter: heard.append(("on_dead", letter.reason))])
    async def work() -> None:
        runs.append("run")

    @bq.on("dead")
    def note(event: Event) -> None:
        heard.append((event.name, event.job_id))

    handle = await work.publish()
    await give_up(place, handle.id)

    async with working(bq):
        view = await handle.wait("30s")
        await eventually(lambda: len(heard) == 2)

    assert runs == []
    assert (view.state, view.attempts) == (State.DEAD, 0)
    [letter] = await letters_of(bq)
    assert (letter.job_id, letter.reason, letter.queue) == (handle.id, "crash_loop", "default")
    assert "the broker gave up on it" in letter.message.headers["bq-dead-note"]
    assert heard == [("dead", handle.id), ("on_dead", "crash_loop")]
    broker = await place.broker()
    async with broker.browse("default") as letters:
        assert [message.headers["bq-dead-reason"] async for message in letters] == ["crash_loop"]

    await bq.dead_letters.redrive([handle.id], by="the test")
    await bq.run_worker(burst=True)
    assert runs == ["run"]
    assert (await handle.status()).state == State.SUCCEEDED
    assert await dead(bq) == 0


async def test_a_crash_loop_that_the_broker_ends_is_seen(place: NarrowPlace) -> None:
    """Workers that die before they have even claimed leave nothing but the broker's count."""
    bq = place.app()

    @bq.job()
    async def work() -> None: ...

    handle = await work.publish()
    broker = await place.broker()
    for _ in range(LIMIT):
        async with broker.consume(LANE, prefetch=1) as consumer:
            await consumer.receive(1)

    async with working(bq):
        view = await handle.wait("30s")

    assert view.state == State.DEAD
    assert [letter.reason for letter in await letters_of(bq)] == ["crash_loop"]


async def test_the_message_of_a_job_that_has_ended_is_removed(place: NarrowPlace) -> None:
    bq = place.app()

    @bq.job()
    async def work() -> str:
        return "done"

    handle = await work.publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert view.message is not None
    await given_up(place, view.message, handle.id)
    assert await dead(bq) == 1

    async with working(bq):
        await eventually(lambda: _is_gone(bq))

    assert await handle.result() == "done"
    assert await letters_of(bq) == []


async def _is_gone(bq: BrokerQ) -> bool:
    return await dead(bq) == 0


@pytest.mark.parametrize("elsewhere", [True, False], ids=["in another worker", "in this worker"])
async def test_a_job_that_runs_is_left_alone(place: NarrowPlace, *, elsewhere: bool) -> None:
    runner, other = place.app(), place.app()
    runner.queue("default", lease="300ms")
    other.queue("default", lease="300ms")
    begun, gate = asyncio.Event(), asyncio.Event()

    @runner.job()
    async def work() -> str:
        begun.set()
        await gate.wait()
        return "done"

    handle = await work.publish()
    async with working(runner):
        await begun.wait()
        view = await handle.status()
        assert view.message is not None
        broker = await place.broker()
        [stats] = await runner.queues.stats()
        assert (stats.ready, stats.in_flight) == (0, 1)
        duplicate = Delivery(
            message=view.message, lane=LANE, id=handle.id, token=0, count=9, in_place=timedelta(0)
        )
        await broker.give_up(duplicate)
        async with working(other if elsewhere else runner):
            await eventually(lambda: _was_released(place, handle.id))
            gate.set()
            assert await handle.result("30s") == "done"
            await eventually(lambda: _is_gone(runner))
    assert await letters_of(runner) == []


def _was_released(place: NarrowPlace, job_id: str) -> bool:
    return any(isinstance(verdict, Release) for id_, verdict in place.how.settled if id_ == job_id)


@pytest.mark.parametrize("store_url", [None, "none://"])
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"bq-id": "j", "bq-job": "work", "bq-epoch": "many"}, id="undecodable"),
        pytest.param({"bq-v": "9", "bq-job": "work"}, id="no id, and of another version"),
    ],
)
async def test_what_cannot_be_read_is_a_dead_letter_too(
    place: NarrowPlace, headers: dict[str, str], store_url: str | None
) -> None:
    bq = place.app(store_url=store_url)
    bq.queue("default")
    await bq.open()
    await given_up(place, Message(headers=headers, body=b"\xff"), "given")

    async with working(bq):
        await eventually(lambda: _has_letters(bq, 1))

    [letter] = await letters_of(bq)
    assert letter.reason == "undecodable"
    assert letter.job_id == headers.get("bq-id", "given")
    assert letter.message.body == b"\xff"
    assert await dead(bq) == 1


async def _has_letters(bq: BrokerQ, count: int) -> bool:
    return len(await letters_of(bq)) == count


async def test_without_a_store_it_is_a_dead_letter_at_once(place: NarrowPlace) -> None:
    bq = place.app(store_url="none://")
    buried: list[Letter] = []

    @bq.job(on_dead=[buried.append])
    async def work() -> None: ...

    handles = [await work.publish() for _ in range(3)]
    await give_up(place, *(handle.id for handle in handles))

    async with working(bq):
        await eventually(lambda: len(buried) == 3)

    assert {letter.job_id for letter in buried} == {handle.id for handle in handles}
    assert {letter.reason for letter in await letters_of(bq)} == {"crash_loop"}
    assert await dead(bq) == 3


async def test_two_workers_judge_each_of_many_once(place: NarrowPlace) -> None:
    one, two = place.app(), place.app()
    two.queue("default")

    @one.job()
    async def work() -> None: ...

    handles = [await work.publish() for _ in range(150)]
    await give_up(place, *(handle.id for handle in handles))
    async with working(one), working(two):
        for handle in handles:
            assert (await handle.wait("10s")).state == State.DEAD
        await eventually(lambda: _has_letters(one, 150))
    assert await dead(one) == 150


async def test_a_next_attempt_that_was_never_published_is(
    place: NarrowPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker was lost between the record and the copy; then the broker gave up on the rest."""
    place.how = Narrowness(gives_up_after=LIMIT, in_place=timedelta(0))
    bq = place.app(retry=RetryPolicy(max_attempts=2, initial="10ms", jitter="none"))
    attempts: list[int] = []

    @bq.job()
    async def work() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError

    handle = await work.publish()
    settle = NarrowConsumer.settle

    async def refuse(
        _consumer: NarrowConsumer, verdicts: Sequence[tuple[Delivery, Verdict]]
    ) -> Sequence[bool]:
        return [False] * len(verdicts)

    with monkeypatch.context() as patch:
        patch.setattr(NarrowConsumer, "settle", refuse)
        async with working(bq):
            await eventually(lambda: _is_retrying(handle))
        patch.setattr(NarrowConsumer, "settle", settle)
    await give_up(place, handle.id)

    async with working(bq):
        view = await handle.wait("30s")
        await eventually(lambda: _is_gone(bq))

    assert (view.state, view.attempts, len(attempts)) == (State.SUCCEEDED, 2, 2)
    assert await letters_of(bq) == []


async def _is_retrying(handle: JobHandle[None]) -> bool:
    return (await handle.status()).state == State.RETRYING
