"""Cases of `StoreContract`: whose clock says when a published job is due."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from brokerq.records import Busy, Claimed, Reserved, State
from brokerq.store import NewJob
from brokerq.testing.store_colocated import declared, outgoing
from brokerq.testing.store_desk import LONG, Desk, StoreCases, kept


async def _enqueue(desk: Desk, job: NewJob) -> None:
    await desk.store.enqueue([job])


async def _reserve(desk: Desk, job: NewJob) -> None:
    assert await desk.reserve(job) == Reserved(id=job.head.id)


async def _reserve_and_enqueue(desk: Desk, job: NewJob) -> None:
    await _reserve(desk, job)
    await desk.store.enqueue([job])


async def _schedule(desk: Desk, job: NewJob) -> None:
    await desk.store.schedule([kept(job)])


async def _publish(desk: Desk, job: NewJob) -> None:
    if pair := await declared(desk):
        store, _ = pair
        await store.publish_recorded([outgoing(job)])
    else:
        await desk.store.enqueue([job])


Way = Callable[[Desk, NewJob], Awaitable[None]]
ways = pytest.mark.parametrize(
    ("way", "key"),
    [
        (_enqueue, None),
        (_reserve, "order-1"),
        (_reserve_and_enqueue, "order-1"),
        (_schedule, None),
        (_schedule, "order-1"),
        (_publish, None),
        (_publish, "order-1"),
    ],
)


class DueCases(StoreCases):
    """A delay is the store's and the broker's to measure; an instant is what it is."""

    @ways
    async def test_a_delay_counts_from_the_store_s_now_on(
        self, desk: Desk, way: Way, key: str | None
    ) -> None:
        job = desk.job(key=key, delay=LONG)
        wrong = job.head._replace(first_at=job.head.first_at + LONG)  # by the publisher's clock
        earliest = desk.harness.now() + LONG
        await way(desk, job._replace(head=wrong))
        latest = desk.harness.now() + LONG
        view = await desk.view(job)
        assert view.state == (State.RESERVED if way is _reserve else State.SCHEDULED)
        assert view.due_at is not None
        assert earliest <= view.due_at <= latest

    @ways
    async def test_a_delayed_job_is_claimed_when_the_broker_hands_it_out(
        self, desk: Desk, way: Way, key: str | None
    ) -> None:
        """The broker's timer and the store's clock are never together to the moment."""
        job = desk.job(key=key, delay=LONG)
        await way(desk, job)
        assert isinstance(await desk.claim(job), Claimed)
        view = await desk.view(job)
        assert (view.state, view.due_at) == (State.RUNNING, None)

    @ways
    async def test_a_job_is_not_claimed_before_the_instant_that_its_message_names(
        self, desk: Desk, way: Way, key: str | None
    ) -> None:
        job = desk.job(key=key, at=LONG)
        await way(desk, job)
        answer = await desk.claim(job)
        assert isinstance(answer, Busy)
        assert LONG - desk.lease < answer.wait <= LONG
        assert (await desk.view(job)).due_at == job.head.not_before

    async def test_a_delayed_job_that_is_given_back_waits_by_the_store_s_clock(
        self, desk: Desk
    ) -> None:
        job = desk.job(delay=LONG)
        await desk.store.enqueue([job])
        run = await desk.start(job)
        assert await desk.finish(run.verdict(State.SCHEDULED, delay=desk.lease))
        assert isinstance(await desk.claim(job), Busy)
        await desk.lapse()
        assert isinstance(await desk.claim(job), Claimed)
