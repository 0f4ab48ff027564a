"""Cases of `StoreContract`: who may run a job, and for how long."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from brokerq.duration import ZERO
from brokerq.records import Busy, Claimed, Hold, Recorded, Stale, State
from brokerq.store import Claim, Holding
from brokerq.testing.store_desk import ANN, BOB, LONG, Desk, Run, StoreCases, again, letter_of


class ClaimCases(StoreCases):
    """Claims, leases, fences and crashes."""

    async def test_the_first_claim_of_a_job_gets_what_its_message_says(self, desk: Desk) -> None:
        job = desk.job(deadline=LONG)
        earliest = desk.harness.now()
        run = await desk.start(job)
        assert run.answer.at is not None
        assert earliest <= run.answer.at <= desk.harness.now()
        assert run.answer == Claimed(
            fence=run.answer.fence,
            epoch=0,
            attempts=0,
            crashes=0,
            first_at=job.head.first_at,
            expires_at=job.head.expires_at,
            redrives=0,
            at=run.answer.at,
        )
        assert run.answer.fence > 0

    async def test_fifty_claimers_of_a_hundred_jobs_get_one_winner_each(self, desk: Desk) -> None:
        jobs = [desk.job(key=f"order-{number}") for number in range(100)]
        stores = [desk.store, await desk.harness.another(), await desk.harness.another()]

        async def claim_all(number: int) -> list[str]:
            claims = [Claim(job=job, owner=f"worker-{number}", lease=LONG) for job in jobs]
            turn = number % len(claims)  # everybody begins elsewhere
            claims = claims[turn:] + claims[:turn]
            answers = await stores[number % len(stores)].claim(claims)
            pairs = zip(claims, answers, strict=True)
            assert all(isinstance(answer, Claimed | Busy) for answer in answers)
            return [c.job.head.id for c, answer in pairs if isinstance(answer, Claimed)]

        won = await asyncio.gather(*(claim_all(number) for number in range(50)))
        assert Counter(id_ for ids in won for id_ in ids) == {job.head.id: 1 for job in jobs}

    async def test_fifty_publishers_of_one_key_get_one_job(self, desk: Desk) -> None:
        """Every delivery brings the same key under an id of its own."""
        jobs = [desk.job(key="order-1") for _ in range(50)]
        stores = [desk.store, await desk.harness.another(), await desk.harness.another()]
        answers = await asyncio.gather(
            *(desk.claim(job, store=stores[n % 3]) for n, job in enumerate(jobs))
        )
        assert sum(isinstance(answer, Claimed) for answer in answers) == 1

    async def test_of_two_claims_in_one_batch_the_second_is_busy(self, desk: Desk) -> None:
        job, other = desk.job(), desk.job()
        claims = [Claim(job=each, owner=ANN, lease=LONG) for each in (job, other, job)]
        first, between, second = await desk.store.claim(claims)
        assert isinstance(first, Claimed)
        assert isinstance(between, Claimed)
        assert isinstance(second, Busy)

    async def test_a_claim_of_what_another_holds_is_told_how_long_to_wait(self, desk: Desk) -> None:
        job = desk.job()
        await desk.start(job, ANN, lease=LONG)
        answer = await desk.claim(job, BOB)
        assert isinstance(answer, Busy)
        assert ZERO < answer.wait <= LONG

    async def test_a_lapsed_lease_is_taken_over_with_a_larger_fence_and_a_crash(
        self, desk: Desk
    ) -> None:
        job = desk.job()
        ann = await desk.start(job, ANN, lease=desk.lease)
        await desk.lapse()
        bob = await desk.start(job, BOB)
        assert bob.answer.fence > ann.answer.fence
        assert (bob.answer.attempts, bob.answer.crashes) == (0, 1)
        assert (await desk.view(job)).worker == BOB

    async def test_every_takeover_counts_one_more_crash(self, desk: Desk) -> None:
        job = desk.job()
        fences: list[int] = []
        for crashes in range(3):
            run = await desk.start(job, f"worker-{crashes}", lease=desk.lease)
            assert run.answer.crashes == crashes
            fences.append(run.answer.fence)
            await desk.lapse()
        assert fences == sorted(set(fences))

    async def test_what_was_claimed_early_is_not_blamed_for_the_loss_of_its_worker(
        self, desk: Desk
    ) -> None:
        """Nobody knows whether it had begun. Who takes it over begins it at once."""
        first, published = desk.job(), desk.job()
        await desk.store.enqueue([published])
        for job in (first, published):
            await desk.start(job, ANN, lease=desk.lease, early=True)
            view = await desk.view(job)
            assert (view.state, view.worker, view.due_at) == (State.RUNNING, ANN, None)
        await desk.lapse()
        other = await desk.harness.another()  # which knows only what was written
        for job in (first, published):
            run = await desk.start(job, BOB, lease=desk.lease, store=other, early=True)
            assert run.answer.crashes == 0
        await desk.lapse()
        for job in (first, published):
            assert (await desk.start(job, "carl")).answer.crashes == 1

    async def test_what_was_claimed_early_goes_on_as_any_other(self, desk: Desk) -> None:
        verdicts = (State.SUCCEEDED, State.RETRYING, State.QUEUED, State.DEAD)
        jobs = [desk.job() for _ in verdicts]
        await desk.store.enqueue(jobs[:2])
        claims = [Claim(job, ANN, LONG, early=True) for job in jobs]
        answers = await desk.store.claim(claims)
        for job, answer, state in zip(jobs, answers, verdicts, strict=True):
            assert isinstance(answer, Claimed)
            assert isinstance(await desk.claim(job, BOB), Busy)
            run = Run(job=job, answer=answer, owner=ANN)
            letter = letter_of(job) if state == State.DEAD else None
            assert await desk.finish(run.verdict(state, attempt=True, letter=letter)) == state
            view = await desk.view(job)
            assert (view.state, view.attempts, view.crashes, view.due_at) == (state, 1, 0, None)
        for job in jobs[1:3]:
            await desk.start(job, BOB, lease=desk.lease)
        await desk.lapse()
        for job in jobs[1:3]:
            assert (await desk.start(job, "carl")).answer.crashes == 1

    async def test_the_fence_of_any_later_claim_of_a_job_is_larger(self, desk: Desk) -> None:
        job = desk.job()
        first = await desk.start(job)
        await desk.finish(first.verdict(State.QUEUED))
        second = await desk.start(job)
        assert second.answer.fence > first.answer.fence

    async def test_a_renewed_lease_begins_anew(self, desk: Desk) -> None:
        job = desk.job()
        ann = await desk.start(job, ANN, lease=desk.lease)
        assert list(await desk.store.renew([ann.holding], lease=LONG)) == [Hold.HELD]
        await desk.lapse()
        assert isinstance(await desk.claim(job, BOB), Busy)

    async def test_a_lapsed_lease_that_nobody_took_is_held_again_by_renewing(
        self, desk: Desk
    ) -> None:
        job = desk.job()
        ann = await desk.start(job, ANN, lease=desk.lease)
        await desk.lapse()
        assert list(await desk.store.renew([ann.holding], lease=LONG)) == [Hold.HELD]
        assert isinstance(await desk.claim(job, BOB), Busy)
        assert (await desk.view(job)).crashes == 0

    async def test_renewing_answers_for_each_holding_in_order(self, desk: Desk) -> None:
        kept = await desk.start(desk.job())
        ended = await desk.start(desk.job())
        cancelled = await desk.start(desk.job())
        await desk.finish(ended.verdict(State.SUCCEEDED))
        await desk.store.cancel(cancelled.id)
        unknown = Holding(id="nobody", owner=ANN, fence=1)
        holdings = [unknown, kept.holding, ended.holding, cancelled.holding]
        assert list(await desk.store.renew(holdings, lease=LONG)) == [
            Hold.LOST,
            Hold.HELD,
            Hold.LOST,
            Hold.CANCEL_REQUESTED,
        ]

    async def test_the_counts_in_a_message_are_lower_bounds(self, desk: Desk) -> None:
        """They may be higher than the record's where the record was lost or never there."""
        job = desk.job(attempts=2, crashes=1)
        run = await desk.start(job)
        assert (run.answer.attempts, run.answer.crashes) == (2, 1)
        await desk.finish(run.verdict(State.RETRYING, attempt=True))
        higher = await desk.start(again(job, attempts=7, crashes=0))
        assert (higher.answer.attempts, higher.answer.crashes) == (7, 1)
        await desk.finish(higher.verdict(State.QUEUED))
        assert (await desk.start(again(job, attempts=1))).answer.attempts == 7

    async def test_attempts_are_exact_over_workers_releases_and_crashes(self, desk: Desk) -> None:
        job = desk.job()
        other = await desk.harness.another()
        for attempts in range(4):
            failed = await desk.start(job, ANN, store=other)
            assert failed.answer.attempts == attempts
            await desk.finish(failed.verdict(State.RETRYING, attempt=True), store=other)
            released = await desk.start(job, BOB)
            assert released.answer.attempts == attempts + 1
            await desk.finish(released.verdict(State.QUEUED))
        await desk.start(job, ANN, lease=desk.lease)
        await desk.lapse()
        last = await desk.start(job, BOB)
        assert (last.answer.attempts, last.answer.crashes) == (4, 1)

    async def test_the_copy_of_a_claimed_epoch_makes_the_original_stale(self, desk: Desk) -> None:
        job = desk.job()
        run = await desk.start(job)
        await desk.finish(run.verdict(State.RETRYING, attempt=True, copy=True))
        await desk.start(again(job, epoch=1))
        assert await desk.claim(job, BOB) == Stale()

    async def test_a_message_of_a_later_epoch_than_recorded_is_believed(self, desk: Desk) -> None:
        """The record may be older than the message where a store was restored from a backup."""
        job = desk.job()
        run = await desk.start(job)
        await desk.finish(run.verdict(State.RETRYING, attempt=True))
        later = await desk.start(again(job, epoch=3))
        assert later.answer.epoch == 3
        assert await desk.claim(job, BOB) == Stale()

    @pytest.mark.parametrize("state", [State.SUCCEEDED, State.SKIPPED, State.CANCELLED])
    async def test_a_redelivery_of_an_ended_job_gets_what_was_recorded(
        self, desk: Desk, state: State
    ) -> None:
        job = desk.job()
        run = await desk.start(job)
        assert await desk.finish(run.verdict(state, attempt=True)) == state
        assert await desk.claim(job, BOB) == Recorded(
            state=state, epoch=0, attempts=1, crashes=0, redrives=0, first_at=job.head.first_at
        )
