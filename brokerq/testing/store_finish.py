"""Cases of `StoreContract`: what a verdict leaves behind, and what a later delivery meets."""

from __future__ import annotations

import pytest

from brokerq.catalogue import LetterFilter
from brokerq.duration import ZERO
from brokerq.records import BURIED, Busy, Claimed, Duplicate, Recorded, Reserved, Stale, State
from brokerq.store import Failure
from brokerq.testing.store_desk import BOB, KEEP, LONG, Desk, StoreCases, again, letter_of

WAITS = [State.RETRYING, State.WAITING, State.SCHEDULED, State.QUEUED]


class FinishCases(StoreCases):
    """Verdicts; retries in place and by copy; releases."""

    @pytest.mark.parametrize("state", WAITS)
    async def test_what_waits_without_delay_may_be_claimed_at_once(
        self, desk: Desk, state: State
    ) -> None:
        job = desk.job()
        run = await desk.start(job)
        assert await desk.finish(run.verdict(state)) == state
        assert (await desk.view(job)).due_at is None
        await desk.start(job, BOB)

    @pytest.mark.parametrize("state", WAITS)
    async def test_what_waits_with_a_delay_is_busy_until_then(
        self, desk: Desk, state: State
    ) -> None:
        job = desk.job()
        run = await desk.start(job)
        earliest = desk.harness.now() + LONG
        await desk.finish(run.verdict(state, delay=LONG))
        latest = desk.harness.now() + LONG
        due_at = (await desk.view(job)).due_at
        assert due_at is not None
        assert earliest <= due_at <= latest
        answer = await desk.claim(job, BOB)
        assert isinstance(answer, Busy)
        assert ZERO < answer.wait <= LONG

    async def test_a_delayed_retry_is_claimable_when_it_is_due_and_never_earlier(
        self, desk: Desk
    ) -> None:
        job = desk.job()
        run = await desk.start(job)
        finished_at = desk.harness.now()
        await desk.finish(run.verdict(State.RETRYING, attempt=True, delay=desk.lease))
        while isinstance(answer := await desk.claim(job, BOB), Busy):
            assert ZERO < answer.wait <= desk.lease
            await desk.harness.pass_time(answer.wait)
        assert isinstance(answer, Claimed)
        assert desk.harness.now() >= finished_at + desk.lease

    async def test_a_retry_in_place_keeps_the_epoch(self, desk: Desk) -> None:
        job = desk.job()
        run = await desk.start(job)
        await desk.finish(run.verdict(State.RETRYING, attempt=True))
        second = await desk.start(job, BOB)
        assert (second.answer.epoch, second.answer.attempts) == (0, 1)

    async def test_a_retry_by_copy_raises_the_epoch(self, desk: Desk) -> None:
        job = desk.job()
        run = await desk.start(job)
        await desk.finish(run.verdict(State.RETRYING, attempt=True, copy=True))
        copy = await desk.start(again(job, epoch=1), BOB)
        assert (copy.answer.epoch, copy.answer.attempts) == (1, 1)

    async def test_an_original_whose_copy_may_be_missing_has_it_sent_again(
        self, desk: Desk
    ) -> None:
        """Killed between record and copy: what is redelivered must not be taken for stale."""
        job = desk.job()
        run = await desk.start(job)
        verdict = run.verdict(State.RETRYING, attempt=True, copy=True, delay=LONG)
        await desk.finish(verdict)
        answer = await desk.claim(job, BOB)
        assert isinstance(answer, Recorded)
        assert (answer.state, answer.epoch, answer.attempts) == (State.RETRYING, 1, 1)
        assert ZERO < answer.wait <= LONG

    async def test_a_copy_that_is_due_already_is_sent_again_at_once(self, desk: Desk) -> None:
        job = desk.job()
        run = await desk.start(job)
        await desk.finish(run.verdict(State.RETRYING, attempt=True, copy=True))
        answer = await desk.claim(job, BOB)
        assert isinstance(answer, Recorded)
        assert (answer.state, answer.wait) == (State.RETRYING, ZERO)

    async def test_a_copy_that_comes_early_is_busy(self, desk: Desk) -> None:
        job = desk.job()
        run = await desk.start(job)
        await desk.finish(run.verdict(State.RETRYING, attempt=True, copy=True, delay=LONG))
        assert isinstance(await desk.claim(again(job, epoch=1)), Busy)

    async def test_the_original_of_a_copy_that_ran_and_retries_in_place_is_stale(
        self, desk: Desk
    ) -> None:
        job = desk.job()
        first = await desk.start(job)
        await desk.finish(first.verdict(State.RETRYING, attempt=True, copy=True))
        second = await desk.start(again(job, epoch=1))
        await desk.finish(second.verdict(State.RETRYING, attempt=True, delay=LONG))
        assert await desk.claim(job, BOB) == Stale()

    @pytest.mark.parametrize("state", sorted(BURIED))
    async def test_a_redelivery_of_a_dead_job_gets_its_letter(
        self, desk: Desk, state: State
    ) -> None:
        """Killed between record and dead letter: it can be sent to the dead letters again."""
        job = desk.job()
        run = await desk.start(job)
        letter = letter_of(job)
        await desk.finish(run.verdict(state, attempt=True, letter=letter))
        answer = await desk.claim(job, BOB)
        assert isinstance(answer, Recorded)
        assert (answer.state, answer.attempts, answer.wait) == (state, 1, ZERO)
        assert answer.letter == letter.headers

    async def test_an_older_message_of_a_dead_job_is_stale(self, desk: Desk) -> None:
        job = desk.job()
        run = await desk.start(job)
        await desk.finish(run.verdict(State.RETRYING, attempt=True, copy=True))
        await desk.bury(again(job, epoch=1))
        assert await desk.claim(job, BOB) == Stale()

    async def test_a_release_counts_no_attempt_and_no_crash(self, desk: Desk) -> None:
        job = desk.job()
        run = await desk.start(job)
        assert await desk.finish(run.verdict(State.QUEUED)) == State.QUEUED
        second = await desk.start(job, BOB)
        assert (second.answer.attempts, second.answer.crashes) == (0, 0)

    async def test_the_result_is_given_back_byte_for_byte(self, desk: Desk) -> None:
        job = desk.job()
        run = await desk.start(job)
        result = '{"b": 1,  "a": "Grüße 🦀\\u0000"}'.encode()
        await desk.finish(run.verdict(State.SUCCEEDED, attempt=True, result=result))
        other = await desk.harness.another()
        assert (await desk.view(job)).result == result
        assert (await desk.view(job, store=other)).result == result

    async def test_a_result_is_gone_after_its_time_to_live(self, desk: Desk) -> None:
        job = desk.job()
        run = await desk.start(job)
        await desk.finish(run.verdict(State.SUCCEEDED, result=b"1", result_ttl=desk.lease))
        await desk.lapse()
        assert (await desk.view(job)).result is None
        assert await desk.prune(KEEP) >= 1
        view = await desk.view(job)
        assert (view.state, view.result) == (State.SUCCEEDED, None)

    async def test_what_went_wrong_is_shown_and_outlives_a_release(self, desk: Desk) -> None:
        job = desk.job()
        failure = Failure(type="ValueError", message="Grüße 🦀" * 40)
        run = await desk.start(job)
        await desk.finish(run.verdict(State.RETRYING, attempt=True, failure=failure))
        released = await desk.start(job)
        await desk.finish(released.verdict(State.QUEUED))
        view = await desk.view(job)
        assert view.failure == failure
        (note,) = [step.note for step in view.history if step.note is not None]
        assert note.startswith("ValueError: Grüße 🦀")
        assert len(note) <= 200

    async def test_a_success_ends_the_job_now(self, desk: Desk) -> None:
        job = desk.job()
        before = desk.harness.now()
        await desk.succeed(job)
        view = await desk.view(job)
        assert view.ended_at is not None
        assert before <= view.ended_at <= desk.harness.now()
        assert (view.attempts, view.due_at) == (1, None)

    async def test_a_letter_is_filed_only_where_the_job_was_buried(self, desk: Desk) -> None:
        """A job that was to retry, and had been asked to end, leaves none."""
        run = await desk.start(desk.job())
        await desk.store.cancel(run.id)
        await desk.finish(run.verdict(State.RETRYING, letter=letter_of(run.job)))
        assert list(await desk.store.letters(LetterFilter(states=None), limit=10)) == []

    async def test_a_conflicting_delivery_can_be_buried_and_holds_no_key(self, desk: Desk) -> None:
        holder = desk.job(key="order-1", fingerprint="a")
        await desk.start(holder)
        run = await desk.start(desk.job(key="order-1", fingerprint="b"))
        assert run.answer.conflict == holder.head.id
        letter = letter_of(run.job, reason="key_conflict")
        assert await desk.finish(run.verdict(State.DEAD, letter=letter)) == State.DEAD
        third = desk.job(key="order-1", fingerprint="a")
        assert await desk.claim(third) == Duplicate(of=holder.head.id)
        assert not isinstance(await desk.reserve(third), Reserved)
