"""Cases of `StoreContract`: what is forgotten, and what never is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from brokerq.catalogue import LetterFilter, LetterState, Redrive
from brokerq.duration import ZERO
from brokerq.errors import NotFoundError
from brokerq.records import CancelAnswer, Duplicate, Held, Recorded, Reserved, State
from brokerq.store import JobFilter, Retention
from brokerq.testing.store_desk import ANN, KEEP, LONG, Desk, StoreCases, letter_of


def keeping(
    *, finished: timedelta = LONG, finished_count: int = 1_000, dead: timedelta = LONG
) -> Retention:
    """Return a retention under which only what is given goes."""
    return Retention(finished=finished, finished_count=finished_count, dead=dead)


NOTHING = keeping(finished=ZERO, finished_count=0, dead=ZERO)


class RetentionCases(StoreCases):
    """Pruning."""

    async def test_what_is_young_is_kept(self, desk: Desk) -> None:
        job = desk.job()
        await desk.succeed(job)
        await desk.bury(desk.job())
        before = await desk.view(job)
        assert await desk.store.prune(KEEP, limit=100) == 0
        assert await desk.view(job) == before

    async def test_live_jobs_are_never_pruned(self, desk: Desk) -> None:
        jobs = [desk.job(), desk.job(delay=LONG)]
        await desk.store.enqueue(jobs)
        jobs += [(running := await desk.start(desk.job())).job]
        for state in (State.RETRYING, State.WAITING, State.QUEUED):
            run = await desk.start(desk.job())
            await desk.finish(run.verdict(state, delay=LONG))
            jobs.append(run.job)
        before = [await desk.view(job) for job in jobs]
        await desk.lapse()
        assert await desk.prune(NOTHING) == 0
        assert [await desk.view(job) for job in jobs] == before
        assert await desk.finish(running.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    async def test_a_reservation_that_nobody_followed_up_goes_in_the_end(self, desk: Desk) -> None:
        """Its publisher died, and nobody asked for the key again."""
        orphan = desk.job(key="order-1", fingerprint="a")
        await desk.reserve(orphan, lease=desk.lease)
        assert await desk.prune(NOTHING) == 0  # its publisher may be at it
        await desk.lapse()
        assert await desk.prune(keeping()) == 0
        assert await desk.prune(NOTHING) == 1
        assert list(await desk.store.get([orphan.head.id])) == [None]
        other = desk.job(key="order-1", fingerprint="b")
        assert await desk.reserve(other) == Reserved(id=other.head.id)

    async def test_a_reserved_job_that_was_forgotten_can_still_be_claimed(self, desk: Desk) -> None:
        orphan = desk.job(key="order-1")
        await desk.reserve(orphan, lease=desk.lease)
        await desk.lapse()
        assert await desk.prune(NOTHING) == 1
        run = await desk.start(orphan)
        assert await desk.finish(run.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    async def test_a_finished_job_past_its_age_is_no_longer_shown(self, desk: Desk) -> None:
        old = desk.job(queue="old")
        await desk.succeed(old)
        await desk.lapse()
        young = desk.job(queue="young")
        await desk.succeed(young)
        assert await desk.prune(keeping(finished=desk.lease)) >= 1
        assert list(await desk.store.get([old.head.id])) == [None]
        found = await desk.store.search(JobFilter(), limit=10)
        assert [view.id for view in found] == [young.head.id]
        assert dict(await desk.store.counts()) == {("young", State.SUCCEEDED): 1}
        with pytest.raises(NotFoundError):
            await desk.store.cancel(old.head.id)

    async def test_the_rules_know_a_job_that_is_no_longer_shown(self, desk: Desk) -> None:
        """Until its window ends, a redelivery and its key meet what was recorded."""
        job = desk.job(key="order-1", fingerprint="a")
        await desk.succeed(job, window=LONG)
        await desk.prune(NOTHING)
        assert list(await desk.store.get([job.head.id])) == [None]
        answer = await desk.claim(job)
        assert isinstance(answer, Recorded)
        assert (answer.state, answer.attempts) == (State.SUCCEEDED, 1)
        same = desk.job(key="order-1", fingerprint="a")
        assert await desk.reserve(same) == Held(id=job.head.id)
        assert await desk.claim(same) == Duplicate(of=job.head.id)

    async def test_a_job_past_its_window_is_gone_with_its_key(self, desk: Desk) -> None:
        job = desk.job(key="order-1")
        first = await desk.start(job)
        await desk.finish(first.verdict(State.SUCCEEDED, attempt=True, window=desk.lease))
        await desk.lapse()
        assert await desk.prune(keeping(finished=desk.lease)) >= 1
        assert await desk.prune(keeping(finished=desk.lease)) == 0
        other = desk.job(key="order-1")
        assert await desk.reserve(other) == Reserved(id=other.head.id)

    async def test_the_fence_grows_over_deletion(self, desk: Desk) -> None:
        """Or a worker that slept through it could hold the next run of the same job."""
        job = desk.job()
        first = await desk.start(job, ANN)
        await desk.finish(first.verdict(State.SKIPPED, window=ZERO))
        await desk.prune(NOTHING)
        second = await desk.start(job, ANN)
        assert second.answer.fence > first.answer.fence
        assert second.answer.attempts == 0
        assert await desk.finish(first.verdict(State.SUCCEEDED)) is None
        assert await desk.finish(second.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    async def test_a_job_that_is_shown_outlives_its_window(self, desk: Desk) -> None:
        job = desk.job()
        await desk.succeed(job, window=ZERO)
        await desk.lapse()
        assert await desk.prune(KEEP) == 0
        assert await desk.state(job) == State.SUCCEEDED

    async def test_beyond_the_count_the_oldest_are_no_longer_shown(self, desk: Desk) -> None:
        jobs = [desk.job() for _ in range(5)]
        for number in (4, 0, 3, 1, 2):
            await desk.succeed(jobs[number])
            await desk.harness.pass_time(timedelta(milliseconds=1))
        live = desk.job()
        await desk.store.enqueue([live])
        assert await desk.prune(keeping(finished_count=2)) == 3
        found = await desk.store.search(JobFilter(), limit=10)
        newest = [live.head.id, jobs[2].head.id, jobs[1].head.id]
        assert [view.id for view in found] == newest
        assert await desk.prune(keeping(finished_count=2)) == 0

    async def test_a_dead_job_whose_letter_is_open_is_kept_as_long_as_the_letter(
        self, desk: Desk
    ) -> None:
        job = desk.job()
        letter = await desk.bury(job, window=ZERO)
        await desk.lapse()
        assert await desk.prune(keeping(finished=ZERO, finished_count=0)) == 0
        assert (await desk.view(job)).message == job.message
        answer = await desk.claim(job)
        assert isinstance(answer, Recorded)
        assert answer.letter == letter.headers
        assert isinstance(await desk.begin_redrive(job), Redrive)

    async def test_an_old_letter_goes_and_its_record_with_it(self, desk: Desk) -> None:
        job = desk.job()
        await desk.bury(job, window=desk.lease)
        await desk.lapse()
        young = desk.job()
        await desk.bury(young)
        assert await desk.prune(keeping(dead=desk.lease)) >= 1
        assert list(await desk.store.get([job.head.id])) == [None]
        (left,) = await desk.store.letters(LetterFilter(states=None), limit=10)
        assert left.job_id == young.head.id
        run = await desk.start(job)
        assert run.answer.attempts == 0

    async def test_a_dead_job_stays_dead_for_its_window_though_its_letter_is_gone(
        self, desk: Desk
    ) -> None:
        job = desk.job()
        await desk.bury(job, window=LONG)
        await desk.prune(NOTHING)
        assert list(await desk.store.get([job.head.id])) == [None]
        assert list(await desk.store.letters(LetterFilter(states=None), limit=10)) == []
        answer = await desk.claim(job)
        assert isinstance(answer, Recorded)
        assert (answer.state, answer.letter) == (State.DEAD, None)

    @pytest.mark.parametrize("state", [LetterState.RESOLVED, LetterState.DISCARDED])
    async def test_a_dead_job_whose_letter_was_closed_counts_as_finished(
        self, desk: Desk, state: LetterState
    ) -> None:
        job = desk.job()
        await desk.bury(job)
        await desk.store.close_letters([job.head.id], state=state, by="eve", note=None)
        assert await desk.prune(keeping(finished=ZERO, finished_count=0)) == 1
        assert list(await desk.store.get([job.head.id])) == [None]
        assert (await desk.letter(job)).state == state
        assert await desk.prune(keeping(finished=ZERO, dead=ZERO)) >= 1
        assert list(await desk.store.letters(LetterFilter(states=None), limit=10)) == []

    async def test_the_letter_of_a_redriven_job_goes_without_touching_the_job(
        self, desk: Desk
    ) -> None:
        job = desk.job()
        await desk.bury(job)
        copy = await desk.redrive(job)
        before = await desk.view(job)
        assert await desk.prune(NOTHING) == 1
        assert list(await desk.store.letters(LetterFilter(states=None), limit=10)) == []
        assert await desk.view(job) == before
        await desk.start(copy)

    async def test_a_redrive_under_way_is_not_pruned(self, desk: Desk) -> None:
        """Its copy may not have been published yet: without the letter it never would be."""
        job = desk.job()
        letter = await desk.bury(job)
        await desk.begin_redrive(job, lease=desk.lease)
        await desk.lapse()
        assert await desk.prune(NOTHING) == 0
        assert list(await desk.store.lapsed_redrives(limit=10)) == [job.head.id]
        resumed = await desk.begin_redrive(job)
        assert isinstance(resumed, Redrive)
        assert resumed.letter.message == letter
        await desk.store.end_redrive([resumed])
        assert await desk.prune(NOTHING) == 1

    async def test_a_cancelled_job_never_runs_however_late_its_message_comes(
        self, desk: Desk
    ) -> None:
        """Its message is still in the broker, delayed; no worker ever said for how long."""
        job = desk.job(delay=desk.lease * 2)
        await desk.store.enqueue([job])
        assert await desk.store.cancel(job.head.id) == CancelAnswer.CANCELLED
        await desk.harness.pass_time(desk.lease * 2.2)
        await desk.prune(keeping(finished=ZERO, finished_count=0, dead=desk.lease))
        assert list(await desk.store.get([job.head.id])) == [None]
        answer = await desk.claim(job)
        assert isinstance(answer, Recorded)
        assert answer.state == State.CANCELLED

    async def test_pruning_removes_no_more_than_the_limit(self, desk: Desk) -> None:
        for number in range(10):
            run = await desk.start(desk.job())
            result = b"1" if number % 2 else None
            verdict = run.verdict(State.SUCCEEDED, window=ZERO, result=result, result_ttl=ZERO)
            await desk.finish(verdict)
        for _ in range(3):
            await desk.bury(desk.job(), window=ZERO)
        removed: list[int] = []
        while count := await desk.store.prune(NOTHING, limit=4):
            removed.append(count)
        assert max(removed) <= 4
        assert sum(removed) >= 13
        assert dict(await desk.store.counts()) == {}
        assert list(await desk.store.letters(LetterFilter(states=None), limit=10)) == []

    async def test_a_result_does_not_outlive_what_it_is_the_result_of(self, desk: Desk) -> None:
        job = desk.job()
        run = await desk.start(job)
        verdict = run.verdict(State.SUCCEEDED, result=b"1", log=["line"], result_ttl=LONG)
        await desk.finish(verdict)
        await desk.prune(NOTHING)
        assert list(await desk.store.get([job.head.id])) == [None]
        assert list(await desk.store.search(JobFilter(), limit=10)) == []

    async def test_an_expired_job_is_kept_as_a_dead_one(self, desk: Desk) -> None:
        job = desk.job()
        run = await desk.start(job)
        letter = letter_of(job, reason="expired")
        await desk.finish(run.verdict(State.EXPIRED, letter=letter, window=ZERO))
        await desk.lapse()
        assert await desk.prune(keeping(finished=ZERO, finished_count=0)) == 0
        assert (await desk.letter(job)).reason == "expired"
