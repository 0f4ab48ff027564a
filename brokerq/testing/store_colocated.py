"""Cases of `StoreContract`: a store and a broker in one database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Protocol, overload

import pytest

from brokerq.broker import Ack, Broker, Lane, Outgoing, QueueSpec
from brokerq.duration import ZERO
from brokerq.errors import BodyTooLargeError, PublishError
from brokerq.message import Message
from brokerq.records import Conflict, Held, Pending, Reserved, State
from brokerq.store import Colocated, NewJob, Store
from brokerq.testing.store_desk import LONG, Desk, StoreCases

LANE = Lane(queue="payments")
LAST = "the-last-one"


class ColocatedStore(Store, Colocated, Protocol):
    """Both at once."""


def outgoing(job: NewJob, *, queue: str = "payments") -> tuple[NewJob, Outgoing]:
    """Return what is published for the job."""
    lane = Lane(queue=queue, level=job.level)
    return job, Outgoing(lane=lane, message=job.message, id=job.head.id, delay=job.delay)


async def declared(desk: Desk) -> tuple[ColocatedStore, Broker] | None:
    """Return store and broker, with a queue; None, if the store does not claim to be colocated."""
    store, broker = desk.store, desk.harness.broker
    if broker is None:
        assert not isinstance(store, Colocated)
        return None
    assert isinstance(store, Colocated)
    await broker.declare([QueueSpec(name=LANE.queue)])
    return store, broker


async def delivered(broker: Broker) -> list[str]:
    """Return the ids of all messages that are in the lane now."""
    last = Message(headers={"bq-id": LAST}, body=b"{}")
    await broker.publish([Outgoing(lane=LANE, message=last, id=LAST)])
    ids: list[str] = []
    async with broker.consume(LANE, prefetch=100) as consumer:
        while LAST not in ids:
            deliveries = await consumer.receive(100)
            ids += [delivery.message.headers["bq-id"] for delivery in deliveries]
            await consumer.settle([(delivery, Ack()) for delivery in deliveries])
    ids.remove(LAST)
    return sorted(ids)


def ids_of(jobs: Sequence[NewJob]) -> list[str]:
    """Return the ids of the jobs."""
    return [job.head.id for job in jobs]


class Unready(Sequence[tuple[NewJob, Outgoing]]):
    """Jobs of which the last one turns out to be no job when it is asked for."""

    def __init__(self, jobs: Sequence[tuple[NewJob, Outgoing]]) -> None:
        self._jobs = jobs

    def __len__(self) -> int:
        return len(self._jobs) + 1

    @overload
    def __getitem__(self, index: int) -> tuple[NewJob, Outgoing]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[tuple[NewJob, Outgoing]]: ...
    def __getitem__(
        self, index: int | slice
    ) -> tuple[NewJob, Outgoing] | Sequence[tuple[NewJob, Outgoing]]:
        wanted = range(len(self))[index]
        if len(self._jobs) in ([wanted] if isinstance(wanted, int) else wanted):
            raise BodyTooLargeError("the last one")
        return self._jobs[index]


class ColocatedCases(StoreCases):
    """Publishing and recording in one transaction."""

    async def test_only_a_store_in_one_database_with_a_broker_says_so(self, desk: Desk) -> None:
        if pair := await declared(desk):
            store, broker = pair
            assert store.shares(broker)

    async def test_jobs_are_published_and_recorded_together(self, desk: Desk) -> None:
        if pair := await declared(desk):
            store, broker = pair
            jobs = [desk.job(), desk.job(key="order-1"), desk.job(at=LONG)]
            answers = await store.publish_recorded([outgoing(job) for job in jobs])
            assert list(answers) == [Reserved(id=job_id) for job_id in ids_of(jobs)]
            states = [await desk.state(job) for job in jobs]
            assert states == [State.QUEUED, State.QUEUED, State.SCHEDULED]
            assert await delivered(broker) == ids_of(jobs)
            assert await desk.reserve(desk.job(key="order-1")) == Held(id=jobs[1].head.id)

    async def test_duplicates_and_conflicts_are_not_published(self, desk: Desk) -> None:
        if pair := await declared(desk):
            store, broker = pair
            job = desk.job(key="order-1", fingerprint="a")
            same = desk.job(key="order-1", fingerprint="a")
            other = desk.job(key="order-1", fingerprint="b")
            innocent = desk.job()
            batch = [outgoing(each) for each in (job, same, other, innocent)]
            assert list(await store.publish_recorded(batch)) == [
                Reserved(id=job.head.id),
                Held(id=job.head.id),
                Conflict(id=job.head.id),
                Reserved(id=innocent.head.id),
            ]
            assert list(await store.publish_recorded([outgoing(same)])) == [Held(id=job.head.id)]
            assert list(await store.get(ids_of([same, other]))) == [None, None]
            assert await delivered(broker) == ids_of([job, innocent])

    async def test_a_refused_publish_leaves_nothing_behind(self, desk: Desk) -> None:
        if pair := await declared(desk):
            store, broker = pair
            jobs = [desk.job(key="order-1"), desk.job(), desk.job(key="order-2")]
            batch = [outgoing(jobs[0]), outgoing(jobs[1]), outgoing(jobs[2], queue="nowhere")]
            with pytest.raises(PublishError) as refused:
                await store.publish_recorded(batch)
            assert 2 in refused.value.failed
            assert refused.value.unknown == ()
            assert list(await store.get(ids_of(jobs))) == [None, None, None]
            assert await delivered(broker) == []
            successor = desk.job(key="order-1", fingerprint="b")
            assert await desk.reserve(successor) == Reserved(id=successor.head.id)

    async def test_of_jobs_that_cannot_all_be_made_ready_none_is_published(
        self, desk: Desk
    ) -> None:
        if pair := await declared(desk):
            store, broker = pair
            for jobs in (
                [desk.job(key="order-1"), desk.job()],
                [desk.job() for _ in range(600)],
            ):
                with pytest.raises(BodyTooLargeError, match="the last one"):
                    await store.publish_recorded(Unready([outgoing(job) for job in jobs]))
                assert set(await store.get(ids_of(jobs))) == {None}
            assert await delivered(broker) == []
            successor = desk.job(key="order-1", fingerprint="b")
            assert await desk.reserve(successor) == Reserved(id=successor.head.id)

    async def test_another_publisher_s_reservation_is_waited_for(self, desk: Desk) -> None:
        if pair := await declared(desk):
            store, broker = pair
            reserved = desk.job(key="order-1")
            await desk.reserve(reserved)
            (answer,) = await store.publish_recorded([outgoing(desk.job(key="order-1"))])
            assert isinstance(answer, Pending)
            assert answer.id == reserved.head.id
            assert ZERO < answer.wait <= LONG
            assert await delivered(broker) == []

    async def test_a_lapsed_reservation_is_to_be_reserved_by_itself(self, desk: Desk) -> None:
        """It is taken over under its own id, which is not that of the message at hand."""
        if pair := await declared(desk):
            store, broker = pair
            lost = desk.job(key="order-1")
            await desk.reserve(lost, lease=desk.lease)
            await desk.lapse()
            job, innocent = desk.job(key="order-1"), desk.job()
            answers = await store.publish_recorded([outgoing(job), outgoing(innocent)])
            assert list(answers) == [
                Pending(id=lost.head.id, wait=ZERO),
                Reserved(id=innocent.head.id),
            ]
            assert await delivered(broker) == ids_of([innocent])
            assert await desk.reserve(job) == Reserved(id=lost.head.id)

    async def test_a_key_whose_window_is_over_is_taken(self, desk: Desk) -> None:
        if pair := await declared(desk):
            store, broker = pair
            await desk.succeed(desk.job(key="order-1"), window=desk.lease)
            await desk.lapse()
            job = desk.job(key="order-1", fingerprint="b")
            answers = await store.publish_recorded([outgoing(job)])
            assert list(answers) == [Reserved(id=job.head.id)]
            assert await delivered(broker) == ids_of([job])
            other = desk.job(key="order-1", fingerprint="c")
            assert await desk.reserve(other) == Conflict(id=job.head.id)

    async def test_a_job_that_has_ended_is_not_published_again(self, desk: Desk) -> None:
        """Its key is free again, but the id is its own."""
        if pair := await declared(desk):
            store, broker = pair
            job = desk.job(key="order-1")
            await desk.bury(job)
            assert list(await store.publish_recorded([outgoing(job)])) == [Held(id=job.head.id)]
            assert await delivered(broker) == []

    async def test_fifty_publishers_of_one_key_publish_once(self, desk: Desk) -> None:
        if pair := await declared(desk):
            store, broker = pair
            stores = [store]
            for _ in range(2):
                other = await desk.harness.another()
                assert isinstance(other, Colocated)
                stores.append(other)
            jobs = [desk.job(key=f"order-{n % 10}") for n in range(50)]
            answers = await asyncio.gather(
                *(stores[n % 3].publish_recorded([outgoing(job)]) for n, job in enumerate(jobs))
            )
            kinds = Counter(type(answer) for (answer,) in answers)
            assert kinds == {Reserved: 10, Held: 40}
            assert len(await delivered(broker)) == 10
