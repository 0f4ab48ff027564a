"""Cases of `StoreContract`: dead jobs that are put back on their queues."""

from __future__ import annotations

import asyncio

import pytest

from brokerq.catalogue import LetterState, NotRedriven, Redrive
from brokerq.duration import ZERO
from brokerq.records import (
    Busy,
    Claimed,
    Conflict,
    Held,
    Recorded,
    Reserved,
    Stale,
    State,
)
from brokerq.testing.store_desk import LONG, Desk, StoreCases, again, letter_of


class RedriveCases(StoreCases):
    """Beginning, ending, resuming and refusing redrives."""

    async def test_a_redrive_gives_the_next_epoch_and_fresh_budgets(self, desk: Desk) -> None:
        job = desk.job(attempts=3, crashes=2, deadline=LONG)
        message = await desk.bury(job)
        began = desk.harness.now()
        redrive = await desk.begin_redrive(job)
        assert isinstance(redrive, Redrive)
        assert (redrive.epoch, redrive.redrives) == (1, 1)
        assert began <= redrive.first_at <= desk.harness.now()
        assert redrive.expires_at == job.head.expires_at
        assert redrive.letter.message == message
        assert redrive.letter.state == LetterState.REDRIVING
        view = await desk.view(job)
        assert (view.state, view.epoch, view.redrives) == (State.QUEUED, 1, 1)
        assert (view.attempts, view.crashes) == (0, 0)
        assert (view.first_at, view.ended_at) == (redrive.first_at, None)
        assert (await desk.letter(job)).state == LetterState.REDRIVING

    async def test_the_copy_of_a_redrive_runs_and_the_older_messages_do_not(
        self, desk: Desk
    ) -> None:
        job = desk.job()
        await desk.bury(job)
        copy = await desk.redrive(job)
        assert (await desk.letter(job)).state == LetterState.REDRIVEN
        assert await desk.claim(job) == Stale()
        run = await desk.start(copy)
        assert (run.answer.epoch, run.answer.attempts, run.answer.redrives) == (1, 0, 1)
        assert await desk.claim(job) == Stale()
        await desk.finish(run.verdict(State.SUCCEEDED, attempt=True))
        history = [step.state for step in (await desk.view(job)).history]
        assert history == [State.RUNNING, State.DEAD, State.QUEUED, State.RUNNING, State.SUCCEEDED]

    async def test_a_passed_deadline_is_cleared(self, desk: Desk) -> None:
        job = desk.job(deadline=desk.lease)
        run = await desk.start(job)
        await desk.lapse()
        await desk.finish(run.verdict(State.EXPIRED, letter=letter_of(job, reason="expired")))
        redrive = await desk.begin_redrive(job)
        assert isinstance(redrive, Redrive)
        assert redrive.expires_at is None
        assert (await desk.start(again(job, epoch=1))).answer.expires_at is None

    async def test_of_two_redrives_at_once_one_wins(self, desk: Desk) -> None:
        jobs = [desk.job() for _ in range(5)]
        for job in jobs:
            await desk.bury(job)
        stores = [desk.store, await desk.harness.another()]
        answers = await asyncio.gather(
            *(desk.begin_redrive(job, store=stores[n % 2]) for n in range(10) for job in jobs)
        )
        redrives = [answer for answer in answers if isinstance(answer, Redrive)]
        assert sorted(redrive.letter.job_id for redrive in redrives) == [j.head.id for j in jobs]
        assert {redrive.epoch for redrive in redrives} == {1}
        assert [(await desk.view(job)).epoch for job in jobs] == [1] * 5

    async def test_of_one_job_named_twice_the_second_is_refused(self, desk: Desk) -> None:
        job = desk.job()
        await desk.bury(job)
        first, second, missing = await desk.store.begin_redrive(
            [job.head.id, job.head.id, "nobody"], by="eve", force=True, lease=LONG
        )
        assert isinstance(first, Redrive)
        assert isinstance(second, NotRedriven)
        assert isinstance(missing, NotRedriven)
        assert (second.missing, missing.missing, missing.job_id) == (False, True, "nobody")

    async def test_a_lapsed_redrive_is_begun_again_under_the_same_epoch(self, desk: Desk) -> None:
        """Killed between the record and the copy."""
        job, other = desk.job(), desk.job()
        await desk.bury(job)
        await desk.bury(other)
        first = await desk.begin_redrive(job, lease=desk.lease)
        await desk.begin_redrive(other, lease=LONG)
        assert list(await desk.store.lapsed_redrives(limit=10)) == []
        await desk.lapse()
        assert list(await desk.store.lapsed_redrives(limit=10)) == [job.head.id]
        second = await desk.begin_redrive(job)
        assert isinstance(first, Redrive)
        assert isinstance(second, Redrive)
        assert (second.epoch, second.redrives) == (1, 1)
        assert (second.first_at, second.letter.message) == (first.first_at, first.letter.message)
        assert (await desk.view(job)).epoch == 1
        assert list(await desk.store.lapsed_redrives(limit=10)) == []
        assert isinstance(await desk.begin_redrive(job), NotRedriven)

    async def test_what_lapsed_is_listed_up_to_the_limit(self, desk: Desk) -> None:
        jobs = [desk.job() for _ in range(3)]
        for job in jobs:
            await desk.bury(job)
            await desk.begin_redrive(job, lease=desk.lease)
        await desk.lapse()
        assert len(await desk.store.lapsed_redrives(limit=2)) == 2
        assert set(await desk.store.lapsed_redrives(limit=9)) == {job.head.id for job in jobs}

    async def test_ending_a_redrive_is_final_and_twice_is_harmless(self, desk: Desk) -> None:
        job = desk.job()
        await desk.bury(job)
        redrive = await desk.begin_redrive(job, lease=desk.lease)
        assert isinstance(redrive, Redrive)
        await desk.store.end_redrive([redrive])
        await desk.store.end_redrive([redrive])
        await desk.lapse()
        assert list(await desk.store.lapsed_redrives(limit=10)) == []
        assert isinstance(await desk.begin_redrive(job), NotRedriven)
        assert (await desk.letter(job)).state == LetterState.REDRIVEN

    async def test_a_late_end_does_not_close_the_next_letter(self, desk: Desk) -> None:
        job = desk.job()
        await desk.bury(job)
        redrive = await desk.begin_redrive(job, lease=desk.lease)
        assert isinstance(redrive, Redrive)
        await desk.bury(again(job, epoch=1))
        await desk.store.end_redrive([redrive])
        letter = await desk.letter(job)
        assert (letter.epoch, letter.state) == (1, LetterState.OPEN)

    async def test_a_redrive_whose_copy_died_again_is_not_taken_up_by_itself(
        self, desk: Desk
    ) -> None:
        """It was never ended, but its copy came: only a person may redrive the new letter."""
        job = desk.job()
        await desk.bury(job)
        await desk.begin_redrive(job, lease=desk.lease)
        await desk.bury(again(job, epoch=1))
        await desk.lapse()
        assert list(await desk.store.lapsed_redrives(limit=10)) == []
        assert await desk.state(job) == State.DEAD

    async def test_the_third_redrive_needs_force(self, desk: Desk) -> None:
        job = desk.job()
        for _ in range(2):
            await desk.bury(job)
            job = await desk.redrive(job)
        await desk.bury(job)
        before = await desk.view(job)
        refused = await desk.begin_redrive(job)
        assert isinstance(refused, NotRedriven)
        assert refused.why
        assert not refused.missing
        assert await desk.view(job) == before
        assert (await desk.letter(job)).state == LetterState.OPEN
        forced = await desk.begin_redrive(job, force=True)
        assert isinstance(forced, Redrive)
        assert (forced.epoch, forced.redrives) == (3, 3)

    async def test_a_redriven_job_holds_its_key_again(self, desk: Desk) -> None:
        job = desk.job(key="order-1", fingerprint="a")
        await desk.bury(job)
        copy = await desk.redrive(job)
        same = desk.job(key="order-1", fingerprint="a")
        assert await desk.reserve(same) == Held(id=job.head.id)
        other = desk.job(key="order-1", fingerprint="b")
        assert await desk.reserve(other) == Conflict(id=job.head.id)
        await desk.succeed(copy, window=LONG)
        assert await desk.reserve(same) == Held(id=job.head.id)

    @pytest.mark.parametrize("completed", [False, True])
    async def test_a_job_whose_key_another_took_or_completed_with_is_not_redriven(
        self, desk: Desk, *, completed: bool
    ) -> None:
        job = desk.job(key="order-1")
        await desk.bury(job)
        other = desk.job(key="order-1")
        assert await desk.reserve(other) == Reserved(id=other.head.id)
        await desk.store.enqueue([other])
        if completed:
            await desk.succeed(other)
        refused = await desk.begin_redrive(job, force=True)
        assert isinstance(refused, NotRedriven)
        assert other.head.id in refused.why
        assert await desk.state(job) == State.DEAD
        assert (await desk.letter(job)).state == LetterState.OPEN

    async def test_a_job_whose_key_another_died_with_may_be_redriven(self, desk: Desk) -> None:
        job, other = desk.job(key="order-1"), desk.job(key="order-1")
        await desk.bury(job)
        await desk.bury(other)
        assert isinstance(await desk.begin_redrive(job), Redrive)
        assert isinstance(await desk.begin_redrive(other), NotRedriven)

    async def test_a_key_conflict_is_redriven_only_once_the_key_is_free(self, desk: Desk) -> None:
        """And then it holds the key, which it never had."""
        holder = desk.job(key="order-1", fingerprint="a")
        run = await desk.start(holder)
        loser = desk.job(key="order-1", fingerprint="b")
        await desk.bury(loser, reason="key_conflict")
        assert isinstance(await desk.begin_redrive(loser, force=True), NotRedriven)
        await desk.finish(run.verdict(State.SKIPPED))
        assert isinstance(await desk.begin_redrive(loser), Redrive)
        third = desk.job(key="order-1", fingerprint="a")
        assert await desk.reserve(third) == Conflict(id=loser.head.id)

    async def test_a_redriven_job_can_be_cancelled(self, desk: Desk) -> None:
        job = desk.job()
        await desk.bury(job)
        copy = await desk.redrive(job)
        await desk.store.cancel(job.head.id)
        answer = await desk.claim(copy)
        assert isinstance(answer, Recorded)
        assert answer.state == State.CANCELLED

    async def test_a_redriven_job_retries_dies_and_is_redriven_as_any_other(
        self, desk: Desk
    ) -> None:
        job = desk.job()
        await desk.bury(job)
        run = await desk.start(await desk.redrive(job))
        await desk.finish(run.verdict(State.RETRYING, attempt=True, copy=True, delay=LONG))
        answer = await desk.claim(again(job, epoch=1))
        assert isinstance(answer, Recorded)
        assert (answer.state, answer.epoch, answer.redrives) == (State.RETRYING, 2, 1)
        assert answer.wait > ZERO
        assert isinstance(await desk.claim(again(job, epoch=2)), Busy)
        assert not isinstance(await desk.claim(job), Claimed)
