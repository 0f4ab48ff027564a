"""Budgets are exact: attempts and crashes, with any number of workers and releases in between."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import uuid4

from brokerq import BrokerQ, Context, Reject, RetryAfter, RetryPolicy, Snooze, State
from brokerq.broker import Lane
from brokerq.records import Claimed
from brokerq.store import Claim, NewJob
from brokerq.wire import read_head
from tests.engine.conftest import (
    AT_ONCE,
    ONCE,
    Place,
    eventually,
    in_ms,
    letters_of,
    working,
)

WORKERS = 5
JOBS = 15
BUDGET = 4


class Restless:
    """A worker program that is stopped in the middle of jobs, and started again, all the time."""

    def __init__(self, bq: BrokerQ, failures: Counter[str], releases: Counter[str]) -> None:
        self.bq = bq
        self.stop = asyncio.Event()

        @bq.job(retry=RetryPolicy(max_attempts=BUDGET, initial="2ms"))
        async def flaky(ctx: Context, number: int) -> None:
            if releases[ctx.id] < number % 3 and failures[ctx.id] >= releases[ctx.id]:
                releases[ctx.id] += 1
                self.stop.set()
                await asyncio.sleep(60)  # until the worker's stop interrupts it
            failures[ctx.id] += 1
            raise ValueError(number)

        self.flaky = flaky

    async def work_for_ever(self) -> None:
        while True:
            self.stop = asyncio.Event()
            await self.bq.run_worker(concurrency=4, grace="0s", stop=self.stop)


async def test_a_job_fails_exactly_as_often_as_it_may_whoever_runs_it(place: Place) -> None:
    failures, releases = Counter[str](), Counter[str]()
    programs = [Restless(place.app(), failures, releases) for _ in range(WORKERS)]
    flaky = programs[0].flaky
    handles = await flaky.publish_many(flaky.arguments(number) for number in range(JOBS))
    workers = [asyncio.create_task(program.work_for_ever()) for program in programs]
    views = [await handle.wait("20s") for handle in handles]
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert {view.state for view in views} == {State.DEAD}
    assert {view.attempts for view in views} == {BUDGET}
    assert failures == {handle.id: BUDGET for handle in handles}
    assert sum(releases.values()) >= JOBS - JOBS // 3
    assert {view.crashes for view in views} == {0}
    assert len(await letters_of(programs[0].bq)) == JOBS


async def test_one_publish_may_have_a_budget_of_its_own(bq: BrokerQ) -> None:
    budgets: list[tuple[int, int]] = []

    @bq.job()
    async def fail(ctx: Context) -> None:
        budgets.append((ctx.attempt, ctx.max_attempts))
        raise ValueError

    handle = await fail.options(max_attempts=2).publish()
    await bq.run_worker(burst=True)
    assert budgets == [(1, 2), (2, 2)]
    assert (await handle.status()).attempts == 2


async def test_a_snooze_is_no_attempt_and_a_retry_after_is_one(bq: BrokerQ) -> None:
    attempts: list[int] = []

    @bq.job(retry=ONCE)
    async def wait(ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) < 4:
            raise Snooze("5ms", "not yet")
        raise RetryAfter("5ms")

    handle = await wait.publish()
    await bq.run_worker(burst=True)
    assert attempts == [1, 1, 1, 1]
    view = await handle.status()
    assert (view.state, view.attempts) == (State.DEAD, 1)
    assert [step.note for step in view.history if step.state == State.SCHEDULED] == ["not yet"] * 3


async def test_a_job_that_snoozes_too_long_expires(bq: BrokerQ) -> None:
    @bq.job(retry=RetryPolicy(max_age="60ms"))
    async def never() -> None:
        raise Snooze("30ms")

    handle = await never.publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert (view.state, view.attempts) == (State.EXPIRED, 0)
    [letter] = await letters_of(bq)
    assert letter.reason == "expired"


async def crash(place: Place, queue: str = "default") -> Claimed:
    """Be a worker that begins one job and is killed: it neither records nor settles anything."""
    backends = place.backends()
    broker, store = backends.broker, backends.store
    assert store is not None
    await broker.open()
    await store.open()
    lane = Lane(queue=queue)
    async with broker.consume(lane, prefetch=1) as consumer:
        [delivery] = await consumer.receive(1)
        message = delivery.message
        job = NewJob(head=read_head(message), message=message, queue=queue, level=lane.level)
        claim = Claim(job=job, owner=f"victim-{uuid4()}", lease=in_ms(30))
        answers = list(await store.claim([claim]))

        async def claimed() -> bool:
            if not isinstance(answers[0], Claimed):
                answers[:] = await store.claim([claim])
            return isinstance(answers[0], Claimed)

        await eventually(claimed)  # the lease of the one killed before has to lapse
    await store.close()
    await broker.close()
    [answer] = answers
    assert isinstance(answer, Claimed)
    return answer


async def test_crashes_have_a_budget_of_their_own(place: Place) -> None:
    bq = place.app(retry=RetryPolicy(max_attempts=2, max_crashes=2))

    @bq.job()
    async def innocent() -> None:
        raise AssertionError

    handle = await innocent.publish()
    assert (await crash(place)).crashes == 0
    assert (await crash(place)).crashes == 1
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert (view.state, view.attempts, view.crashes) == (State.DEAD, 0, 2)
    [letter] = await letters_of(bq)
    assert letter.reason == "crash_loop"


async def test_a_crash_is_no_attempt(place: Place) -> None:
    bq = place.app(retry=AT_ONCE)
    seen: list[tuple[int, int]] = []

    @bq.job()
    async def careful(ctx: Context) -> None:
        seen.append((ctx.attempt, ctx.crashes))
        raise Reject("seen enough")

    handle = await careful.publish()
    await crash(place)
    await bq.run_worker(burst=True)
    assert seen == [(1, 1)]
    assert (await handle.status()).attempts == 1


async def test_a_crash_blames_only_the_jobs_that_had_started(place: Place) -> None:
    bq = place.app(retry=RetryPolicy(max_crashes=1))

    @bq.job()
    async def work(number: int) -> int:
        return number

    handles = [await work.publish(number) for number in range(3)]
    await crash(place)
    async with working(bq):
        views = [await handle.wait("30s") for handle in handles]
    states = Counter(view.state for view in views)
    assert states == {State.DEAD: 1, State.SUCCEEDED: 2}


async def test_the_dead_letter_has_the_story_of_the_job(bq: BrokerQ) -> None:
    @bq.job()
    async def fail() -> None:
        raise ValueError("no luck")

    handle = await fail.publish()
    await bq.run_worker(burst=True)
    await eventually(lambda: _has_letter(bq))
    letter = await bq.dead_letters.get(handle.id)
    headers = letter.message.headers
    assert (letter.reason, letter.error_type, letter.error_message) == (
        "exhausted",
        "ValueError",
        "no luck",
    )
    assert headers["bq-dead-attempts"] == "3"
    assert "raise ValueError" in headers["bq-dead-traceback"]
    assert headers["bq-dead-history"].count("retrying") == 2
    assert headers["bq-dead-queue"] == "default"
    assert letter.message.body == b"{}"


async def _has_letter(bq: BrokerQ) -> bool:
    return len(await letters_of(bq)) == 1
