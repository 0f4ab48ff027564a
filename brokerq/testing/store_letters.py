"""Cases of `StoreContract`: the dead letters, listed and closed."""

from __future__ import annotations

import asyncio

import pytest

from brokerq.catalogue import LetterFilter, LetterState, NotRedriven
from brokerq.duration import ZERO
from brokerq.records import Recorded, State
from brokerq.store import Retention
from brokerq.testing.store_desk import LONG, Desk, StoreCases, letter_of

CLOSED = [LetterState.RESOLVED, LetterState.DISCARDED]


class LetterCases(StoreCases):
    """The catalogue, but for redrives."""

    @pytest.mark.parametrize("state", [State.DEAD, State.EXPIRED])
    async def test_a_buried_job_has_its_letter_in_the_catalogue(
        self, desk: Desk, state: State
    ) -> None:
        job = desk.job(queue="q", level="high")
        run = await desk.start(job)
        message = letter_of(job, reason="rejected", error_type="shop.CardError", group="b2")
        before = desk.harness.now()
        await desk.finish(run.verdict(state, attempt=True, letter=message))
        letter = await desk.letter(job)
        assert (letter.job_id, letter.epoch, letter.redrives) == (job.head.id, 0, 0)
        assert (letter.job, letter.queue, letter.level) == ("charge", "q", "high")
        assert (letter.state, letter.note, letter.by) == (LetterState.OPEN, None, None)
        assert (letter.reason, letter.group) == ("rejected", "b2")
        assert (letter.error_type, letter.error_message) == (
            "shop.CardError",
            message.headers["bq-dead-error-message"],
        )
        assert before <= letter.at <= desk.harness.now()

    async def test_a_letter_is_given_back_byte_for_byte(self, desk: Desk) -> None:
        job = desk.job()
        message = await desk.bury(job)
        assert (await desk.letter(job)).message == message

    async def test_a_job_that_dies_again_has_a_letter_for_each_time_and_shows_the_newest(
        self, desk: Desk
    ) -> None:
        job = desk.job()
        await desk.bury(job, reason="exhausted")
        copy = await desk.redrive(job)
        await desk.bury(copy, reason="rejected")
        letter = await desk.letter(job)
        assert (letter.epoch, letter.reason, letter.redrives) == (1, "rejected", 1)
        assert (letter.state, letter.message.headers["bq-epoch"]) == (LetterState.OPEN, "1")
        redriven = LetterFilter(states=[LetterState.REDRIVEN])
        assert list(await desk.store.letters(redriven, limit=10)) == []

    async def test_one_death_leaves_one_letter_however_often_it_is_reported(
        self, desk: Desk
    ) -> None:
        job = desk.job()
        await desk.bury(job, reason="exhausted")
        for _ in range(3):
            assert isinstance(await desk.claim(job), Recorded)
        (letter,) = await desk.store.letters(LetterFilter(states=None), limit=10)
        assert letter.reason == "exhausted"

    async def test_a_death_that_comes_again_does_not_open_its_letter_again(
        self, desk: Desk
    ) -> None:
        """A late redelivery, after the record was forgotten: the letter is of that very epoch."""
        job = desk.job()
        letter = await desk.bury(job, reason="exhausted", window=ZERO)
        await desk.store.close_letters([job.head.id], state=CLOSED[0], by="eve", note=None)
        await desk.prune(Retention(finished=ZERO, finished_count=0, dead=LONG))
        await desk.bury(job, reason="rejected")
        found = await desk.letter(job)
        assert (found.state, found.by, found.message) == (CLOSED[0], "eve", letter)

    async def test_letters_are_listed_by_job_id_page_by_page(self, desk: Desk) -> None:
        jobs = [desk.job() for _ in range(5)]
        for number in (3, 0, 4, 1, 2):
            await desk.bury(jobs[number])
        ids = [job.head.id for job in jobs]
        first = await desk.store.letters(LetterFilter(), limit=3)
        assert [letter.job_id for letter in first] == ids[:3]
        second = await desk.store.letters(LetterFilter(), limit=3, after=first[-1].job_id)
        assert [letter.job_id for letter in second] == ids[3:]
        assert list(await desk.store.letters(LetterFilter(), limit=3, after=ids[-1])) == []

    async def test_each_filter_of_the_letters_holds_alone_and_together(self, desk: Desk) -> None:
        wanted = desk.job(name="refund", queue="q")
        await desk.bury(wanted, reason="rejected", error_type="KeyError", group="g")
        await desk.bury(desk.job(), reason="exhausted", error_type="OSError", group="h")
        closed = desk.job(name="refund", queue="q")
        await desk.bury(closed, reason="rejected", error_type="KeyError", group="g")
        await desk.store.close_letters(
            [closed.head.id], state=LetterState.RESOLVED, by="eve", note=None
        )
        filters = [
            LetterFilter(ids=[wanted.head.id, "nobody"]),
            LetterFilter(job="refund"),
            LetterFilter(queue="q"),
            LetterFilter(reason="rejected"),
            LetterFilter(error_type="KeyError"),
            LetterFilter(group="g"),
            LetterFilter(job="refund", queue="q", reason="rejected", group="g", newer_than=LONG),
        ]
        for each in filters:
            letters = await desk.store.letters(each, limit=10)
            assert [letter.job_id for letter in letters] == [wanted.head.id], each
        resolved = LetterFilter(states=[LetterState.RESOLVED, LetterState.DISCARDED])
        (letter,) = await desk.store.letters(resolved, limit=10)
        assert letter.job_id == closed.head.id
        for nothing in (LetterFilter(ids=[]), LetterFilter(job="refund", reason="exhausted")):
            assert list(await desk.store.letters(nothing, limit=10)) == []

    async def test_letters_are_found_by_their_age(self, desk: Desk) -> None:
        old = desk.job()
        await desk.bury(old)
        await desk.lapse()
        young = desk.job()
        await desk.bury(young)
        older = await desk.store.letters(LetterFilter(older_than=desk.lease), limit=10)
        assert [letter.job_id for letter in older] == [old.head.id]
        newer = await desk.store.letters(LetterFilter(newer_than=desk.lease), limit=10)
        assert [letter.job_id for letter in newer] == [young.head.id]
        assert len(await desk.store.letters(LetterFilter(older_than=ZERO), limit=10)) == 2

    @pytest.mark.parametrize("state", CLOSED)
    async def test_closing_a_letter_keeps_who_did_it_and_why(
        self, desk: Desk, state: LetterState
    ) -> None:
        job = desk.job()
        await desk.bury(job)
        closed = await desk.store.close_letters(
            [job.head.id, "nobody"], state=state, by="eve", note="paid by hand: ü"
        )
        assert list(closed) == [True, False]
        letter = await desk.letter(job)
        assert (letter.state, letter.by, letter.note) == (state, "eve", "paid by hand: ü")
        assert list(await desk.store.letters(LetterFilter(), limit=10)) == []
        assert await desk.state(job) == State.DEAD

    async def test_a_letter_is_closed_only_once(self, desk: Desk) -> None:
        job = desk.job()
        await desk.bury(job)
        stores = [desk.store, await desk.harness.another()]
        answers = await asyncio.gather(
            *(
                stores[n % 2].close_letters(
                    [job.head.id], state=CLOSED[n % 2], by=f"{n}", note=None
                )
                for n in range(10)
            )
        )
        assert sum(answer[0] for answer in answers) == 1
        letter = await desk.letter(job)
        (winner,) = [n for n, answer in enumerate(answers) if answer[0]]
        assert (letter.state, letter.by) == (CLOSED[winner % 2], f"{winner}")

    @pytest.mark.parametrize("state", CLOSED)
    async def test_a_closed_letter_is_not_redriven(self, desk: Desk, state: LetterState) -> None:
        job = desk.job()
        await desk.bury(job)
        await desk.store.close_letters([job.head.id], state=state, by="eve", note=None)
        refused = await desk.begin_redrive(job, force=True)
        assert isinstance(refused, NotRedriven)
        assert (refused.job_id, refused.missing) == (job.head.id, False)
        assert await desk.state(job) == State.DEAD

    async def test_a_letter_that_is_redriven_cannot_be_closed(self, desk: Desk) -> None:
        job = desk.job()
        await desk.bury(job)
        await desk.begin_redrive(job)
        close = desk.store.close_letters
        assert list(await close([job.head.id], state=CLOSED[0], by="eve", note=None)) == [False]
        assert (await desk.letter(job)).state == LetterState.REDRIVING

    async def test_a_job_that_did_not_die_has_no_letter(self, desk: Desk) -> None:
        job = desk.job()
        await desk.succeed(job)
        assert list(await desk.store.letters(LetterFilter(states=None), limit=10)) == []
        refused = await desk.begin_redrive(job)
        assert isinstance(refused, NotRedriven)
        assert refused.missing
