"""Cases of `StoreContract`: a job that is asked to end."""

from __future__ import annotations

import pytest

from brokerq.errors import NotFoundError
from brokerq.records import CancelAnswer, Hold, Recorded, Reserved, State
from brokerq.testing.store_desk import ANN, BOB, LONG, Desk, StoreCases, again, letter_of

WAITS = [State.RETRYING, State.WAITING, State.SCHEDULED, State.QUEUED]


class CancelCases(StoreCases):
    """Cancelling, in every state."""

    async def test_cancelling_a_job_that_nobody_knows_says_so(self, desk: Desk) -> None:
        with pytest.raises(NotFoundError, match="nobody"):
            await desk.store.cancel("nobody")

    async def test_a_published_job_is_cancelled_at_once_and_never_runs(self, desk: Desk) -> None:
        for job in (desk.job(), desk.job(delay=LONG)):
            await desk.store.enqueue([job])
            assert await desk.store.cancel(job.head.id) == CancelAnswer.CANCELLED
            view = await desk.view(job)
            assert (view.state, view.due_at) == (State.CANCELLED, None)
            assert view.ended_at is not None
            answer = await desk.claim(job)
            assert isinstance(answer, Recorded)
            assert answer.state == State.CANCELLED

    async def test_a_reserved_job_is_cancelled_though_it_is_published_then(
        self, desk: Desk
    ) -> None:
        job = desk.job(key="order-1")
        await desk.reserve(job)
        assert await desk.store.cancel(job.head.id) == CancelAnswer.CANCELLED
        await desk.store.enqueue([job])
        assert await desk.state(job) == State.CANCELLED

    @pytest.mark.parametrize("state", WAITS)
    async def test_a_job_that_waits_between_runs_is_cancelled_at_once(
        self, desk: Desk, state: State
    ) -> None:
        job = desk.job()
        run = await desk.start(job)
        copy = state == State.RETRYING
        await desk.finish(run.verdict(state, delay=LONG, copy=copy, attempt=copy))
        assert await desk.store.cancel(job.head.id) == CancelAnswer.CANCELLED
        answer = await desk.claim(again(job, epoch=int(copy)))
        assert isinstance(answer, Recorded)
        assert answer.state == State.CANCELLED

    async def test_a_running_job_learns_of_it_with_its_next_renewal(self, desk: Desk) -> None:
        run = await desk.start(desk.job())
        assert await desk.store.cancel(run.id) == CancelAnswer.REQUESTED
        view = await desk.view(run.job)
        assert (view.state, view.cancelling) == (State.RUNNING, True)
        assert list(await desk.store.renew([run.holding], lease=LONG)) == [Hold.CANCEL_REQUESTED]
        assert list(await desk.store.renew([run.holding], lease=LONG)) == [Hold.CANCEL_REQUESTED]
        assert await desk.finish(run.verdict(State.CANCELLED)) == State.CANCELLED
        view = await desk.view(run.job)
        assert (view.state, view.cancelling) == (State.CANCELLED, False)

    @pytest.mark.parametrize("state", WAITS)
    async def test_a_job_that_was_asked_to_end_is_cancelled_rather_than_wait(
        self, desk: Desk, state: State
    ) -> None:
        run = await desk.start(desk.job())
        await desk.store.cancel(run.id)
        verdict = run.verdict(state, attempt=True, copy=state == State.RETRYING, delay=LONG)
        assert await desk.finish(verdict) == State.CANCELLED
        view = await desk.view(run.job)
        assert (view.state, view.epoch, view.attempts, view.due_at) == (State.CANCELLED, 0, 1, None)
        answer = await desk.claim(run.job)
        assert isinstance(answer, Recorded)

    async def test_a_job_that_ended_before_it_heard_of_it_has_ended_so(self, desk: Desk) -> None:
        run, dead = await desk.start(desk.job()), await desk.start(desk.job())
        await desk.store.cancel(run.id)
        await desk.store.cancel(dead.id)
        assert await desk.finish(run.verdict(State.SUCCEEDED)) == State.SUCCEEDED
        letter = letter_of(dead.job)
        assert await desk.finish(dead.verdict(State.DEAD, letter=letter)) == State.DEAD
        assert (await desk.letter(dead.job)).message == letter

    async def test_a_job_that_crashed_after_it_was_asked_to_end_is_cancelled(
        self, desk: Desk
    ) -> None:
        run = await desk.start(desk.job(key="order-1"), ANN, lease=desk.lease)
        await desk.store.cancel(run.id)
        await desk.lapse()
        answer = await desk.claim(run.job, BOB)
        assert isinstance(answer, Recorded)
        assert (answer.state, answer.crashes) == (State.CANCELLED, 1)
        view = await desk.view(run.job)
        assert view.state == State.CANCELLED
        assert view.ended_at is not None
        assert await desk.finish(run.verdict(State.SUCCEEDED)) is None
        assert isinstance(await desk.reserve(desk.job(key="order-1")), Reserved)

    @pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD, State.EXPIRED, State.SKIPPED])
    async def test_it_is_too_late_for_a_job_that_has_ended(self, desk: Desk, state: State) -> None:
        run = await desk.start(desk.job())
        await desk.finish(run.verdict(state, letter=letter_of(run.job)))
        before = await desk.view(run.job)
        assert await desk.store.cancel(run.id) == CancelAnswer.TOO_LATE
        assert await desk.view(run.job) == before

    async def test_cancelling_twice_is_harmless(self, desk: Desk) -> None:
        job = desk.job()
        await desk.store.enqueue([job])
        await desk.store.cancel(job.head.id)
        before = await desk.view(job)
        assert await desk.store.cancel(job.head.id) == CancelAnswer.CANCELLED
        assert await desk.view(job) == before

    async def test_cancelling_frees_the_key(self, desk: Desk) -> None:
        job = desk.job(key="order-1")
        await desk.store.enqueue([job])
        await desk.store.cancel(job.head.id)
        successor = desk.job(key="order-1")
        assert await desk.reserve(successor) == Reserved(id=successor.head.id)

    async def test_another_store_object_sees_what_was_asked(self, desk: Desk) -> None:
        run = await desk.start(desk.job())
        other = await desk.harness.another()
        assert await other.cancel(run.id) == CancelAnswer.REQUESTED
        assert list(await desk.store.renew([run.holding], lease=LONG)) == [Hold.CANCEL_REQUESTED]
