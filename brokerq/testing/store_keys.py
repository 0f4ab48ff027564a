"""Cases of `StoreContract`: idempotency keys and the reservations of publishers."""

from __future__ import annotations

import asyncio

import pytest

from brokerq.duration import ZERO
from brokerq.records import (
    Claimed,
    Conflict,
    Duplicate,
    Held,
    Pending,
    Recorded,
    Reserved,
    State,
)
from brokerq.testing.store_desk import ANN, BOB, LONG, Desk, StoreCases, again, letter_of


class KeyCases(StoreCases):
    """Who holds a key, from when on, and until when."""

    async def test_a_free_key_is_reserved_under_the_job_s_own_id(self, desk: Desk) -> None:
        job = desk.job(key="order-1")
        assert await desk.reserve(job) == Reserved(id=job.head.id)
        view = await desk.view(job)
        assert (view.state, view.key) == (State.RESERVED, "order-1")

    async def test_fifty_publishers_get_one_reservation(self, desk: Desk) -> None:
        jobs = [desk.job(key="order-1") for _ in range(50)]
        stores = [desk.store, await desk.harness.another(), await desk.harness.another()]
        answers = await asyncio.gather(
            *(desk.reserve(job, f"p-{n}", store=stores[n % 3]) for n, job in enumerate(jobs))
        )
        (winner,) = [answer.id for answer in answers if isinstance(answer, Reserved)]
        rest = [answer for answer in answers if not isinstance(answer, Reserved)]
        assert all(isinstance(answer, Pending) and answer.id == winner for answer in rest)

    async def test_of_two_reservations_in_one_batch_the_second_waits(self, desk: Desk) -> None:
        jobs = [desk.job(key="order-1"), desk.job(key="order-2"), desk.job(key="order-1")]
        first, other, second = await desk.store.reserve(jobs, owner=ANN, lease=LONG)
        assert (first, other) == (Reserved(id=jobs[0].head.id), Reserved(id=jobs[1].head.id))
        assert isinstance(second, Pending)
        assert second.id == jobs[0].head.id
        assert ZERO < second.wait <= LONG

    async def test_the_key_of_a_published_job_is_held(self, desk: Desk) -> None:
        job = desk.job(key="order-1")
        await desk.reserve(job)
        await desk.store.enqueue([job])
        assert await desk.state(job) == State.QUEUED
        assert await desk.reserve(desk.job(key="order-1"), BOB) == Held(id=job.head.id)

    async def test_a_delayed_job_is_shown_as_scheduled(self, desk: Desk) -> None:
        job = desk.job(key="order-1", at=LONG)
        await desk.reserve(job)
        await desk.store.enqueue([job])
        view = await desk.view(job)
        assert (view.state, view.due_at) == (State.SCHEDULED, job.head.not_before)

    async def test_another_payload_under_a_held_key_is_a_conflict(self, desk: Desk) -> None:
        job = desk.job(key="order-1", fingerprint="a")
        await desk.reserve(job)
        other = desk.job(key="order-1", fingerprint="b")
        assert await desk.reserve(other, BOB) == Conflict(id=job.head.id)
        await desk.store.enqueue([job])
        assert await desk.reserve(other, BOB) == Conflict(id=job.head.id)
        assert list(await desk.store.get([other.head.id])) == [None]

    @pytest.mark.parametrize(("held", "asked"), [("a", None), (None, "b"), (None, None)])
    async def test_payloads_are_compared_only_if_both_have_a_fingerprint(
        self, desk: Desk, held: str | None, asked: str | None
    ) -> None:
        job = desk.job(key="order-1", fingerprint=held)
        await desk.store.enqueue([job])
        second = desk.job(key="order-1", fingerprint=asked)
        assert await desk.reserve(second) == Held(id=job.head.id)
        assert await desk.claim(second) == Duplicate(of=job.head.id)

    async def test_a_lapsed_reservation_is_taken_over_under_its_own_id(self, desk: Desk) -> None:
        """Its publisher may have died after the broker took the message."""
        lost = desk.job(key="order-1", fingerprint="a")
        await desk.reserve(lost, ANN, lease=desk.lease)
        await desk.lapse()
        job = desk.job(key="order-1", fingerprint="a")
        assert await desk.reserve(job, BOB) == Reserved(id=lost.head.id)
        assert list(await desk.store.get([job.head.id])) == [None]
        third = await desk.reserve(desk.job(key="order-1", fingerprint="a"), "carl")
        assert isinstance(third, Pending)

    async def test_a_lapsed_reservation_of_another_payload_stays_a_conflict(
        self, desk: Desk
    ) -> None:
        lost = desk.job(key="order-1", fingerprint="a")
        await desk.reserve(lost, ANN, lease=desk.lease)
        await desk.lapse()
        job = desk.job(key="order-1", fingerprint="b")
        assert await desk.reserve(job, BOB) == Conflict(id=lost.head.id)

    async def test_a_reserved_job_can_be_claimed(self, desk: Desk) -> None:
        """Its message may be delivered before its publisher has said so, or after it died."""
        job = desk.job(key="order-1")
        await desk.reserve(job)
        run = await desk.start(job)
        await desk.store.enqueue([job])
        assert await desk.state(job) == State.RUNNING
        assert await desk.finish(run.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    async def test_reserving_again_under_an_id_that_runs_does_not_take_it_back(
        self, desk: Desk
    ) -> None:
        """A publisher that was not sure, asking again: the job is there, and goes on."""
        job = desk.job(key="order-1")
        await desk.reserve(job)
        run = await desk.start(job)
        assert await desk.reserve(job) == Held(id=job.head.id)
        assert await desk.finish(run.verdict(State.SUCCEEDED)) == State.SUCCEEDED
        assert await desk.reserve(job) == Held(id=job.head.id)
        assert await desk.state(job) == State.SUCCEEDED

    async def test_reserving_under_the_id_of_a_dead_job_does_not_bring_it_back(
        self, desk: Desk
    ) -> None:
        """Its key is free; but a job that has ended runs again only by a redrive."""
        job = desk.job(key="order-1")
        await desk.bury(job)
        assert await desk.reserve(job) == Held(id=job.head.id)
        assert await desk.state(job) == State.DEAD

    @pytest.mark.parametrize("state", [State.RETRYING, State.SUCCEEDED, State.DEAD])
    async def test_recording_a_publish_never_goes_over_a_later_state(
        self, desk: Desk, state: State
    ) -> None:
        job = desk.job()
        run = await desk.start(job)
        await desk.finish(run.verdict(state, letter=letter_of(job)))
        before = await desk.view(job)
        await desk.store.enqueue([job])
        assert await desk.view(job) == before

    async def test_a_job_without_key_is_recorded_as_published(self, desk: Desk) -> None:
        jobs = [desk.job(), desk.job(delay=LONG)]
        await desk.store.enqueue(jobs)
        await desk.store.enqueue(jobs)
        assert [await desk.state(job) for job in jobs] == [State.QUEUED, State.SCHEDULED]

    async def test_freeing_takes_back_a_reservation_and_its_key(self, desk: Desk) -> None:
        job = desk.job(key="order-1")
        await desk.reserve(job)
        await desk.store.free([job.head.id, "nobody"], owner=ANN)
        assert list(await desk.store.get([job.head.id])) == [None]
        other = desk.job(key="order-1", fingerprint="b")
        assert await desk.reserve(other, BOB) == Reserved(id=other.head.id)

    async def test_only_one_s_own_reservations_can_be_freed(self, desk: Desk) -> None:
        taken_over, foreign = desk.job(key="order-1"), desk.job(key="order-2")
        await desk.reserve(taken_over, ANN, lease=desk.lease)
        await desk.reserve(foreign, BOB)
        await desk.lapse()
        await desk.reserve(taken_over_by := desk.job(key="order-1"), BOB)
        await desk.store.free([taken_over.head.id, foreign.head.id], owner=ANN)
        assert await desk.state(taken_over) == State.RESERVED
        assert await desk.state(foreign) == State.RESERVED
        assert isinstance(await desk.reserve(taken_over_by, "carl"), Pending)

    async def test_what_was_published_or_claimed_cannot_be_freed(self, desk: Desk) -> None:
        published, running = desk.job(key="order-1"), desk.job(key="order-2")
        for job in (published, running):
            await desk.reserve(job)
        await desk.store.enqueue([published])
        await desk.start(running)
        await desk.store.free([published.head.id, running.head.id], owner=ANN)
        assert await desk.state(published) == State.QUEUED
        assert await desk.state(running) == State.RUNNING

    async def test_a_key_is_one_job_name_s_own(self, desk: Desk) -> None:
        charge = desk.job(name="charge", key="order-1", fingerprint="a")
        refund = desk.job(name="refund", key="order-1", fingerprint="b")
        assert await desk.reserve(charge) == Reserved(id=charge.head.id)
        assert await desk.reserve(refund) == Reserved(id=refund.head.id)
        await desk.start(charge)
        await desk.start(refund)

    async def test_a_success_holds_its_key_for_the_window(self, desk: Desk) -> None:
        job = desk.job(key="order-1", fingerprint="a")
        await desk.succeed(job, window=LONG)
        same = desk.job(key="order-1", fingerprint="a")
        assert await desk.reserve(same) == Held(id=job.head.id)
        other = desk.job(key="order-1", fingerprint="b")
        assert await desk.reserve(other) == Conflict(id=job.head.id)
        assert await desk.claim(same) == Duplicate(of=job.head.id)

    async def test_the_key_is_free_after_the_window(self, desk: Desk) -> None:
        await desk.succeed(desk.job(key="order-1"), window=desk.lease)
        await desk.succeed(desk.job(key="order-2"), window=desk.lease)
        await desk.lapse()
        reserved, claimed = desk.job(key="order-1"), desk.job(key="order-2")
        assert await desk.reserve(reserved) == Reserved(id=reserved.head.id)
        await desk.start(claimed)
        assert await desk.claim(desk.job(key="order-2")) == Duplicate(of=claimed.head.id)

    @pytest.mark.parametrize("state", [State.DEAD, State.EXPIRED, State.CANCELLED, State.SKIPPED])
    async def test_any_other_end_frees_the_key(self, desk: Desk, state: State) -> None:
        job = desk.job(key="order-1")
        run = await desk.start(job)
        await desk.finish(run.verdict(state, letter=letter_of(job)))
        successor = desk.job(key="order-1", fingerprint="b")
        assert await desk.reserve(successor) == Reserved(id=successor.head.id)

    @pytest.mark.parametrize("state", [State.RETRYING, State.QUEUED, State.WAITING])
    async def test_a_job_that_waits_keeps_its_key(self, desk: Desk, state: State) -> None:
        job = desk.job(key="order-1")
        run = await desk.start(job)
        await desk.finish(run.verdict(state, delay=LONG))
        assert await desk.reserve(desk.job(key="order-1")) == Held(id=job.head.id)

    async def test_the_delivery_of_a_duplicate_is_skipped_for_ever(self, desk: Desk) -> None:
        """Even once the key is free: a job that has ended runs again only by a redrive."""
        job, duplicate = desk.job(key="order-1"), desk.job(key="order-1")
        run = await desk.start(job)
        assert await desk.claim(duplicate) == Duplicate(of=job.head.id)
        view = await desk.view(duplicate)
        assert (view.state, view.note) == (State.SKIPPED, f"duplicate_of {job.head.id}")
        assert view.ended_at is not None
        await desk.finish(run.verdict(State.SKIPPED))
        answer = await desk.claim(duplicate)
        assert isinstance(answer, Recorded)
        assert answer.state == State.SKIPPED

    async def test_the_delivery_of_a_conflict_is_claimed_and_told_so(self, desk: Desk) -> None:
        job = desk.job(key="order-1", fingerprint="a")
        await desk.start(job)
        other = desk.job(key="order-1", fingerprint="b")
        run = await desk.start(other)
        assert run.answer.conflict == job.head.id
        assert await desk.claim(desk.job(key="order-1", fingerprint="a")) == Duplicate(
            of=job.head.id
        )

    async def test_a_job_s_own_messages_are_never_its_duplicates(self, desk: Desk) -> None:
        job = desk.job(key="order-1")
        await desk.reserve(job)
        await desk.store.enqueue([job])
        run = await desk.start(job)
        assert run.answer.conflict is None
        await desk.finish(run.verdict(State.RETRYING, attempt=True, copy=True))
        assert isinstance(await desk.claim(again(job, epoch=1)), Claimed)
