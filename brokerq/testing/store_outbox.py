"""Cases of `StoreContract`: messages that wait in the store until a relay has published them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from brokerq.broker import Outgoing
from brokerq.duration import ZERO
from brokerq.outbox import Backlog, Taken
from brokerq.records import CancelAnswer, Conflict, Held, Pending, Reserved, State
from brokerq.store import NewJob, Store
from brokerq.testing.store_desk import ANN, BOB, LONG, Desk, StoreCases, kept


async def take(
    store: Store,
    owner: str = ANN,
    *,
    lease: timedelta = LONG,
    ahead: timedelta = ZERO,
    limit: int = 100,
) -> list[Taken]:
    """Take what is due."""
    return list(await store.take(owner=owner, lease=lease, ahead=ahead, limit=limit))


def ids_of(taken: Sequence[Taken]) -> list[str]:
    """Return the ids of the jobs."""
    return [each.outgoing.id for each in taken]


def rows_of(taken: Sequence[Taken]) -> list[int]:
    """Return what the store calls the messages."""
    return [each.id for each in taken]


class ScheduleCases(StoreCases):
    """What goes into the outbox: keys, messages and records in one transaction."""

    async def test_messages_are_kept_and_their_jobs_recorded_together(self, desk: Desk) -> None:
        jobs = [desk.job(), desk.job(key="order-1", fingerprint="a"), desk.job(delay=LONG)]
        answers = await desk.store.schedule([kept(job) for job in jobs])
        assert list(answers) == [Reserved(id=job.head.id) for job in jobs]
        states = [await desk.state(job) for job in jobs]
        assert states == [State.QUEUED, State.QUEUED, State.SCHEDULED]
        same = desk.job(key="order-1", fingerprint="a")
        assert await desk.reserve(same) == Held(id=jobs[1].head.id)
        assert ids_of(await take(desk.store)) == [job.head.id for job in jobs[:2]]

    async def test_a_message_comes_out_as_it_went_in(self, desk: Desk) -> None:
        plain = desk.job(queue="emails", level="high")
        plain = plain._replace(head=plain.head._replace(tenant="t-1"))
        _, wanted = kept(plain, order="customer-7")
        await desk.store.schedule([(plain, wanted)])
        (taken,) = await take(desk.store)
        assert taken.outgoing == wanted

    async def test_a_delayed_message_comes_out_with_what_is_left_of_its_delay(
        self, desk: Desk
    ) -> None:
        job = desk.job(delay=LONG)
        await desk.store.schedule([kept(job)])
        await desk.lapse()
        (taken,) = await take(desk.store, ahead=LONG)
        assert ZERO < taken.outgoing.delay <= LONG - desk.lease

    async def test_a_message_that_names_an_instant_is_due_then_by_the_store_s_clock(
        self, desk: Desk
    ) -> None:
        """Whatever its publisher, whose clock was an hour behind, took for its delay."""
        job = desk.job(at=desk.lease)
        await desk.store.schedule([kept(job, delay=desk.lease + LONG)])
        assert await take(desk.store) == []
        await desk.lapse()
        (taken,) = await take(desk.store)
        assert (taken.outgoing.id, taken.outgoing.delay) == (job.head.id, ZERO)

    async def test_duplicates_and_conflicts_are_not_kept(self, desk: Desk) -> None:
        job = desk.job(key="order-1", fingerprint="a", delay=LONG)
        same = desk.job(key="order-1", fingerprint="a", delay=LONG)
        other = desk.job(key="order-1", fingerprint="b", delay=LONG)
        innocent = desk.job(delay=LONG)
        batch = [kept(each) for each in (job, same, other, innocent)]
        assert list(await desk.store.schedule(batch)) == [
            Reserved(id=job.head.id),
            Held(id=job.head.id),
            Conflict(id=job.head.id),
            Reserved(id=innocent.head.id),
        ]
        assert list(await desk.store.schedule([kept(same)])) == [Held(id=job.head.id)]
        assert list(await desk.store.get([same.head.id, other.head.id])) == [None, None]
        assert ids_of(await take(desk.store, ahead=LONG)) == [job.head.id, innocent.head.id]

    async def test_another_publisher_s_reservation_is_waited_for(self, desk: Desk) -> None:
        reserved = desk.job(key="order-1")
        await desk.reserve(reserved)
        (answer,) = await desk.store.schedule([kept(desk.job(key="order-1", delay=LONG))])
        assert isinstance(answer, Pending)
        assert answer.id == reserved.head.id
        assert ZERO < answer.wait <= LONG
        assert await desk.store.next_due(ahead=ZERO) is None

    async def test_a_lapsed_reservation_is_taken_over_under_its_own_id(self, desk: Desk) -> None:
        lost = desk.job(key="order-1")
        await desk.reserve(lost, lease=desk.lease)
        await desk.lapse()
        job = desk.job(key="order-1")
        (answer,) = await desk.store.schedule([kept(job)])
        assert answer == Pending(id=lost.head.id, wait=ZERO)
        same = desk.job(id=lost.head.id, key="order-1")
        assert list(await desk.store.schedule([kept(same)])) == [Reserved(id=lost.head.id)]
        assert await desk.state(lost) == State.QUEUED
        assert ids_of(await take(desk.store)) == [lost.head.id]

    async def test_fifty_publishers_of_one_key_keep_one_message(self, desk: Desk) -> None:
        stores = [desk.store, await desk.harness.another(), await desk.harness.another()]
        jobs = [desk.job(key="order-1") for _ in range(50)]
        answers = await asyncio.gather(
            *(stores[n % 3].schedule([kept(job)]) for n, job in enumerate(jobs))
        )
        (winner,) = [answer.id for (answer,) in answers if isinstance(answer, Reserved)]
        assert all(answer.id == winner for (answer,) in answers)
        assert ids_of(await take(desk.store)) == [winner]

    async def test_the_message_of_a_cancelled_job_is_removed(self, desk: Desk) -> None:
        job, other = desk.job(delay=LONG), desk.job(delay=LONG)
        await desk.store.schedule([kept(job), kept(other)])
        assert await desk.store.cancel(job.head.id) == CancelAnswer.CANCELLED
        (taken,) = await take(desk.store, ahead=LONG)
        assert taken.outgoing.id == other.head.id
        assert await desk.store.cancel(other.head.id) == CancelAnswer.CANCELLED
        await desk.store.sent([taken.id], owner=ANN)
        assert dict((await desk.store.outbox()).queues) == {}

    async def test_a_job_that_runs_keeps_its_message_when_it_is_asked_to_end(
        self, desk: Desk
    ) -> None:
        """Its relay died before it could say that the message was published."""
        job = desk.job()
        await desk.store.schedule([kept(job)])
        await desk.start(job)
        assert await desk.store.cancel(job.head.id) == CancelAnswer.REQUESTED
        assert ids_of(await take(desk.store)) == [job.head.id]


class RelayCases(StoreCases):
    """What relays do with the outbox, one or many of them."""

    async def keep(self, desk: Desk, *delays: timedelta) -> list[NewJob]:
        """Keep a message for each delay."""
        jobs = [desk.job(delay=delay) for delay in delays]
        await desk.store.schedule([kept(job) for job in jobs])
        return jobs

    async def test_nothing_is_taken_early(self, desk: Desk) -> None:
        (job,) = await self.keep(desk, desk.lease)
        assert await take(desk.store) == []
        assert await take(desk.store, ahead=desk.lease * 0.4) == []
        await desk.lapse()
        (taken,) = await take(desk.store)
        assert (taken.outgoing.id, taken.outgoing.delay) == (job.head.id, ZERO)

    async def test_what_is_due_first_is_taken_first(self, desk: Desk) -> None:
        late, early, soon = await self.keep(desk, LONG * 3, LONG, LONG * 2)
        first = await take(desk.store, ahead=LONG * 4, limit=2)
        assert ids_of(first) == [early.head.id, soon.head.id]
        assert ids_of(await take(desk.store, ahead=LONG * 4, limit=2)) == [late.head.id]

    async def test_two_relays_never_hold_the_same_message(self, desk: Desk) -> None:
        jobs = await self.keep(desk, *[ZERO] * 40)
        stores = [desk.store, await desk.harness.another(), await desk.harness.another()]
        takes = [take(stores[n % 3], f"relay-{n}", limit=3) for n in range(20)]
        taken = [each for some in await asyncio.gather(*takes) for each in some]
        assert sorted(ids_of(taken)) == [job.head.id for job in jobs]
        assert len(set(rows_of(taken))) == len(jobs)

    async def test_what_the_broker_has_confirmed_is_gone(self, desk: Desk) -> None:
        gone, left = await self.keep(desk, ZERO, ZERO)
        taken = await take(desk.store)
        await desk.store.sent(rows_of(taken)[:1], owner=ANN)
        await desk.store.sent(rows_of(taken)[:1], owner=ANN)
        await desk.store.put_back(rows_of(taken), owner=ANN, delay=ZERO)
        assert ids_of(await take(desk.store)) == [left.head.id]
        assert await desk.state(gone) == State.QUEUED

    async def test_a_message_whose_lease_has_lapsed_is_taken_over(self, desk: Desk) -> None:
        (job,) = await self.keep(desk, ZERO)
        (first,) = await take(desk.store, lease=desk.lease)
        assert await take(desk.store, BOB) == []
        await desk.lapse()
        (second,) = await take(desk.store, BOB)
        assert second.outgoing == first.outgoing
        assert second.outgoing.id == job.head.id

    async def test_who_lost_the_lease_can_change_nothing(self, desk: Desk) -> None:
        await self.keep(desk, ZERO)
        (first,) = await take(desk.store, lease=desk.lease)
        await desk.lapse()
        (second,) = await take(desk.store, BOB)
        await desk.store.sent([first.id], owner=ANN)
        await desk.store.put_back([first.id], owner=ANN, delay=ZERO)
        assert await take(desk.store) == []
        await desk.store.put_back([second.id], owner=BOB, delay=ZERO)
        assert len(await take(desk.store)) == 1

    async def test_what_was_put_back_comes_again_after_its_delay(self, desk: Desk) -> None:
        refused, other = await self.keep(desk, ZERO, ZERO)
        taken = await take(desk.store)
        await desk.store.put_back(rows_of(taken)[:1], owner=ANN, delay=desk.lease)
        await desk.store.put_back(rows_of(taken)[1:], owner=ANN, delay=ZERO)
        assert ids_of(await take(desk.store, BOB, ahead=LONG)) == [other.head.id]
        await desk.lapse()
        (again,) = await take(desk.store, BOB)
        assert again.outgoing == taken[0].outgoing
        assert again.outgoing.id == refused.head.id

    async def test_of_an_ordering_key_one_message_is_out_at_a_time(self, desk: Desk) -> None:
        """Two relays, or a refusal, could else publish a later one first."""
        jobs = [desk.job() for _ in range(4)]
        keys = ["a", "a", "a", "b"]
        pairs = zip(jobs, keys, strict=True)
        await desk.store.schedule([kept(job, order=key) for job, key in pairs])
        first = await take(desk.store)
        assert ids_of(first) == [jobs[0].head.id, jobs[3].head.id]
        assert await take(desk.store, BOB) == []
        assert await desk.store.next_due(ahead=ZERO) is None
        await desk.store.put_back(rows_of(first)[:1], owner=ANN, delay=desk.lease)
        assert await take(desk.store) == []
        await desk.store.sent(rows_of(first)[1:], owner=ANN)
        await desk.lapse()
        (head,) = await take(desk.store)
        assert head.outgoing.id == jobs[0].head.id
        await desk.store.sent([head.id], owner=ANN)
        assert await desk.store.next_due(ahead=ZERO) == ZERO
        assert ids_of(await take(desk.store)) == [jobs[1].head.id]

    async def test_what_waits_behind_a_cancelled_job_may_go(self, desk: Desk) -> None:
        jobs = [desk.job() for _ in range(3)]
        await desk.store.schedule([kept(job, order="a") for job in jobs])
        await desk.store.cancel(jobs[1].head.id)
        await desk.store.cancel(jobs[0].head.id)
        assert ids_of(await take(desk.store)) == [jobs[2].head.id]

    async def test_queues_may_use_the_same_ordering_keys(self, desk: Desk) -> None:
        one, other = desk.job(queue="payments"), desk.job(queue="emails")
        await desk.store.schedule([kept(one, order="a"), kept(other, order="a")])
        assert ids_of(await take(desk.store)) == [one.head.id, other.head.id]


class HealthCases(StoreCases):
    """What is said about the outbox, and who sees it."""

    async def test_it_says_when_the_first_message_is_due(self, desk: Desk) -> None:
        store = desk.store
        assert await store.next_due(ahead=ZERO) is None
        await store.schedule([kept(desk.job(delay=LONG * 2)), kept(desk.job(delay=LONG))])
        wait = await store.next_due(ahead=ZERO)
        assert wait is not None
        assert LONG - desk.lease < wait <= LONG
        sooner = await store.next_due(ahead=LONG / 2)
        assert sooner is not None
        assert LONG / 2 - desk.lease < sooner <= LONG / 2
        assert await store.next_due(ahead=LONG * 3) == ZERO
        await store.schedule([kept(desk.job())])
        assert await store.next_due(ahead=ZERO) == ZERO

    async def test_what_somebody_holds_is_not_waited_for(self, desk: Desk) -> None:
        store = desk.store
        await store.schedule([kept(desk.job())])
        (taken,) = await take(store, lease=desk.lease)
        assert await store.next_due(ahead=ZERO) is None
        await desk.lapse()
        assert await store.next_due(ahead=ZERO) == ZERO
        (taken,) = await take(store)
        await store.put_back([taken.id], owner=ANN, delay=LONG)
        wait = await store.next_due(ahead=LONG)
        assert wait is not None
        assert LONG - desk.lease < wait <= LONG

    async def test_it_is_counted_by_queue(self, desk: Desk) -> None:
        store = desk.store
        assert await store.outbox() == await (await desk.harness.another()).outbox()
        assert dict((await store.outbox()).queues) == {}
        late = [desk.job(delay=LONG), desk.job(delay=LONG, queue="emails")]
        await store.schedule([kept(job) for job in (*late, desk.job(), desk.job())])
        await take(store, limit=1)
        stats = await store.outbox()
        assert dict(stats.queues) == {"payments": Backlog(3, 2), "emails": Backlog(1, 0)}

    async def test_the_oldest_due_message_tells_how_late_the_relays_are(self, desk: Desk) -> None:
        store = desk.store
        await store.schedule([kept(desk.job(delay=LONG))])
        assert (await store.outbox()).overdue == ZERO
        await store.schedule([kept(desk.job())])
        await desk.lapse()
        (taken,) = await take(store)
        await store.put_back([taken.id], owner=ANN, delay=LONG)
        assert (await store.outbox()).overdue >= desk.lease
        await store.cancel(taken.outgoing.id)
        assert (await store.outbox()).overdue == ZERO

    async def test_messages_outlive_the_store_object(self, desk: Desk) -> None:
        job = desk.job(delay=LONG)
        _, outgoing = kept(job)
        await desk.store.schedule([(job, outgoing)])
        await desk.store.close()
        later = await desk.harness.another()
        (taken,) = await take(later, ahead=LONG)
        assert taken.outgoing.message == outgoing.message

    async def test_apps_do_not_see_each_other_s_messages(self, desk: Desk) -> None:
        await desk.store.schedule([kept(desk.job())])
        other = await desk.harness.another("other")
        assert await take(other) == []
        assert await other.next_due(ahead=ZERO) is None
        assert dict((await other.outbox()).queues) == {}
        taken = await take(desk.store)
        await other.sent(rows_of(taken), owner=ANN)
        await other.put_back(rows_of(taken), owner=ANN, delay=ZERO)
        assert await desk.store.next_due(ahead=ZERO) is None
        await desk.store.put_back(rows_of(taken), owner=ANN, delay=ZERO)
        assert len(await take(desk.store)) == 1

    async def test_a_message_of_any_kind_is_kept(self, desk: Desk) -> None:
        """Whoever publishes has checked it; the outbox keeps what it gets."""
        job = desk.job(queue="nobody-declared-it")
        job = job._replace(message=job.message.__class__(headers={"ü": "\n"}, body=b"\x00\xff"))
        await desk.store.schedule([kept(job)])
        (taken,) = await take(desk.store)
        assert taken.outgoing.message == job.message
        assert isinstance(taken.outgoing, Outgoing)


class OutboxCases(ScheduleCases, RelayCases, HealthCases):
    """All of them."""
