"""Cases of `StoreContract`: a worker that lost its lease changes nothing."""

from __future__ import annotations

from brokerq.catalogue import LetterFilter
from brokerq.duration import ZERO
from brokerq.records import ENDED, Busy, Hold, Recorded, Reserved, State
from brokerq.store import Failure, NewJob
from brokerq.testing.store_desk import ANN, BOB, LONG, Desk, Run, StoreCases, letter_of

VERDICTS = sorted(ENDED | {State.RETRYING, State.WAITING, State.SCHEDULED, State.QUEUED})


class ZombieCases(StoreCases):
    """The fence, after a takeover."""

    async def take_over(self, desk: Desk) -> tuple[Run, Run]:
        """Return the run of a worker that was taken for dead, and that of the next."""
        (pair,) = await self.take_over_all(desk, [desk.job(key="order-1")])
        return pair

    async def take_over_all(self, desk: Desk, jobs: list[NewJob]) -> list[tuple[Run, Run]]:
        """Do the same for each job; all leases lapse together."""
        zombies = [await desk.start(job, ANN, lease=desk.lease) for job in jobs]
        await desk.lapse()
        return [(zombie, await desk.start(zombie.job, BOB)) for zombie in zombies]

    async def test_no_verdict_of_a_zombie_is_recorded(self, desk: Desk) -> None:
        pairs = await self.take_over_all(desk, [desk.job() for _ in VERDICTS])
        for state, (zombie, winner) in zip(VERDICTS, pairs, strict=True):
            before = await desk.view(zombie.job)
            verdict = zombie.verdict(
                state,
                attempt=True,
                copy=state == State.RETRYING,
                delay=ZERO if state in ENDED else LONG,
                result=b'"of the zombie"' if state == State.SUCCEEDED else None,
                failure=Failure(type="ZombieError", message="late"),
                note="of the zombie",
                letter=letter_of(zombie.job, reason="rejected"),
                log=["of the zombie"],
            )
            assert await desk.finish(verdict) is None, state
            assert await desk.view(zombie.job) == before, state
            assert list(await desk.store.renew([winner.holding], lease=LONG)) == [Hold.HELD]
        assert list(await desk.store.letters(LetterFilter(states=None), limit=10)) == []

    async def test_a_zombie_does_not_free_the_key(self, desk: Desk) -> None:
        zombie, winner = await self.take_over(desk)
        await desk.finish(zombie.verdict(State.DEAD, letter=letter_of(zombie.job)))
        duplicate = desk.job(key="order-1")
        assert not isinstance(await desk.reserve(duplicate), Reserved)
        assert await desk.finish(winner.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    async def test_a_zombie_cannot_renew(self, desk: Desk) -> None:
        zombie, winner = await self.take_over(desk)
        holdings = [zombie.holding, winner.holding]
        assert list(await desk.store.renew(holdings, lease=LONG)) == [Hold.LOST, Hold.HELD]
        assert isinstance(await desk.claim(zombie.job, "carl"), Busy)

    async def test_a_zombie_changes_nothing_after_the_winner_has_finished(self, desk: Desk) -> None:
        pairs = await self.take_over_all(desk, [desk.job() for _ in VERDICTS])
        for state, (zombie, winner) in zip(VERDICTS, pairs, strict=True):
            won = winner.verdict(State.SUCCEEDED, attempt=True, result=b'"won"', log=["won"])
            assert await desk.finish(won) == State.SUCCEEDED
            before = await desk.view(zombie.job)
            assert (before.result, list(before.log)) == (b'"won"', ["won"])
            late = zombie.verdict(
                state, attempt=True, result=b'"lost"', letter=letter_of(zombie.job)
            )
            assert await desk.finish(late) is None, state
            assert list(await desk.store.renew([zombie.holding], lease=LONG)) == [Hold.LOST]
            assert await desk.view(zombie.job) == before, state

    async def test_a_zombie_cannot_hurry_the_retry_of_the_winner(self, desk: Desk) -> None:
        zombie, winner = await self.take_over(desk)
        await desk.finish(winner.verdict(State.RETRYING, attempt=True, delay=LONG))
        assert await desk.finish(zombie.verdict(State.QUEUED)) is None
        assert isinstance(await desk.claim(zombie.job), Busy)

    async def test_the_same_worker_with_an_old_fence_is_a_zombie_too(self, desk: Desk) -> None:
        job = desk.job()
        first = await desk.start(job, ANN, lease=desk.lease)
        await desk.lapse()
        second = await desk.start(job, ANN)
        assert await desk.finish(first.verdict(State.SUCCEEDED)) is None
        assert await desk.finish(second.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    async def test_another_worker_with_the_right_fence_holds_nothing(self, desk: Desk) -> None:
        run = await desk.start(desk.job(), ANN)
        thief = Run(job=run.job, answer=run.answer, owner=BOB)
        assert await desk.finish(thief.verdict(State.SUCCEEDED)) is None
        assert list(await desk.store.renew([thief.holding], lease=LONG)) == [Hold.LOST]

    async def test_a_verdict_after_a_lapse_that_nobody_noticed_counts(self, desk: Desk) -> None:
        run = await desk.start(desk.job(), lease=desk.lease)
        await desk.lapse()
        assert await desk.finish(run.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    async def test_a_second_verdict_on_one_run_is_refused(self, desk: Desk) -> None:
        run = await desk.start(desk.job())
        first = run.verdict(State.SUCCEEDED, result=b"1")
        second = run.verdict(State.DEAD, letter=letter_of(run.job))
        assert list(await desk.store.finish([first, second])) == [State.SUCCEEDED, None]
        assert (await desk.view(run.job)).result == b"1"

    async def test_lost_verdicts_do_not_touch_their_neighbours(self, desk: Desk) -> None:
        zombie, _ = await self.take_over(desk)
        runs = [await desk.start(desk.job()) for _ in range(2)]
        verdicts = [run.verdict(State.SUCCEEDED) for run in (runs[0], zombie, runs[1])]
        answers = await desk.store.finish(verdicts)
        assert list(answers) == [State.SUCCEEDED, None, State.SUCCEEDED]

    async def test_a_verdict_on_a_job_that_nobody_knows_is_refused(self, desk: Desk) -> None:
        run = await desk.start(desk.job())
        stranger = Run(job=desk.job(), answer=run.answer, owner=ANN)
        assert await desk.finish(stranger.verdict(State.SUCCEEDED)) is None
        assert list(await desk.store.get([stranger.id])) == [None]

    async def test_a_zombie_of_before_a_redrive_changes_nothing(self, desk: Desk) -> None:
        zombie, winner = await self.take_over(desk)
        await desk.finish(winner.verdict(State.DEAD, letter=letter_of(winner.job)))
        copy = await desk.redrive(winner.job)
        assert await desk.finish(zombie.verdict(State.SUCCEEDED)) is None
        again = await desk.start(copy, "carl")
        assert await desk.finish(winner.verdict(State.SUCCEEDED)) is None
        assert await desk.finish(again.verdict(State.SUCCEEDED)) == State.SUCCEEDED
        answer = await desk.claim(copy)
        assert isinstance(answer, Recorded)
        assert answer.state == State.SUCCEEDED
