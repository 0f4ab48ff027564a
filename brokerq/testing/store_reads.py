"""Cases of `StoreContract`: what people and programs see of the jobs."""

from __future__ import annotations

from datetime import timedelta

from brokerq.records import State
from brokerq.store import JobFilter
from brokerq.testing.store_desk import ANN, BOB, LONG, Desk, StoreCases, again


class ReadCases(StoreCases):
    """Get, search and counts; history, log and note."""

    async def test_a_job_is_shown_as_it_was_published(self, desk: Desk) -> None:
        job = desk.job(
            queue="q",
            level="high",
            key="order-1",
            deadline=LONG,
            tags=("a", "b c"),
            correlation="request-7",
        )
        await desk.store.enqueue([job])
        view = await desk.view(job, store=await desk.harness.another())
        assert (view.id, view.job, view.queue, view.level) == (job.head.id, "charge", "q", "high")
        assert (view.key, view.tags, view.correlation) == ("order-1", ("a", "b c"), "request-7")
        assert (view.first_at, view.expires_at) == (job.head.first_at, job.head.expires_at)
        assert (view.attempts, view.crashes, view.redrives, view.epoch) == (0, 0, 0, 0)
        assert (view.due_at, view.ended_at, view.worker, view.cause) == (None, None, None, None)
        assert (view.result, view.failure, view.note, list(view.log)) == (None, None, None, [])

    async def test_the_message_is_given_back_byte_for_byte(self, desk: Desk) -> None:
        job = desk.job()
        await desk.start(job)
        assert (await desk.view(job)).message == job.message

    async def test_what_is_asked_for_comes_in_that_order(self, desk: Desk) -> None:
        first, second = desk.job(), desk.job()
        await desk.store.enqueue([first, second])
        views = await desk.store.get([second.head.id, "nobody", first.head.id])
        assert [view and view.id for view in views] == [second.head.id, None, first.head.id]
        assert list(await desk.store.get([])) == []

    async def test_the_history_tells_every_step_in_order(self, desk: Desk) -> None:
        job = desk.job(key="order-1")
        await desk.reserve(job)
        await desk.store.enqueue([job])
        await desk.start(job, ANN, lease=desk.lease)
        await desk.lapse()
        failed = await desk.start(job, BOB)
        await desk.finish(failed.verdict(State.RETRYING, attempt=True, copy=True))
        last = await desk.start(again(job, epoch=1))
        await desk.finish(last.verdict(State.SUCCEEDED, attempt=True))
        history = (await desk.view(job)).history
        assert [(step.state, step.attempt) for step in history] == [
            (State.RESERVED, 0),
            (State.QUEUED, 0),
            (State.RUNNING, 0),
            (State.RUNNING, 0),
            (State.RETRYING, 1),
            (State.RUNNING, 1),
            (State.SUCCEEDED, 2),
        ]
        instants = [step.at for step in history]
        assert instants == sorted(instants)
        assert instants[3] - instants[2] >= desk.lease

    async def test_a_renewal_or_a_refusal_is_no_step(self, desk: Desk) -> None:
        run = await desk.start(desk.job())
        await desk.store.renew([run.holding], lease=LONG)
        await desk.store.cancel(run.id)
        await desk.claim(run.job, BOB)
        assert [step.state for step in (await desk.view(run.job)).history] == [State.RUNNING]

    async def test_the_middle_of_a_very_long_history_is_left_out(self, desk: Desk) -> None:
        job = desk.job()
        for _ in range(40):
            run = await desk.start(job)
            await desk.finish(run.verdict(State.RETRYING, attempt=True))
        run = await desk.start(job)
        await desk.finish(run.verdict(State.SUCCEEDED, attempt=True))
        attempts = [step.attempt for step in (await desk.view(job)).history]
        assert 10 <= len(attempts) <= 50
        assert attempts == sorted(attempts)
        assert attempts[:3] == [0, 1, 1]
        assert attempts[-3:] == [40, 40, 41]

    async def test_the_log_keeps_its_newest_thousand_lines(self, desk: Desk) -> None:
        job = desk.job()
        first = await desk.start(job)
        early = [f"first {n} Grüße" for n in range(700)]
        await desk.finish(first.verdict(State.RETRYING, attempt=True, log=early))
        assert list((await desk.view(job)).log) == early
        second = await desk.start(job)
        late = [f"second {n}" for n in range(700)]
        await desk.finish(second.verdict(State.SUCCEEDED, attempt=True, log=late))
        assert list((await desk.view(job)).log) == [*early[400:], *late]

    async def test_the_note_says_why_there_is_no_result(self, desk: Desk) -> None:
        run = await desk.start(desk.job())
        note = "the result cannot be encoded: ü"
        await desk.finish(run.verdict(State.SUCCEEDED, note=note))
        assert (await desk.view(run.job)).note == note

    async def test_a_search_returns_the_newest_first_page_by_page(self, desk: Desk) -> None:
        jobs = [desk.job() for _ in range(5)]
        await desk.store.enqueue([jobs[n] for n in (3, 0, 4, 1, 2)])
        newest = [job.head.id for job in reversed(jobs)]
        first = await desk.store.search(JobFilter(), limit=2)
        assert [view.id for view in first] == newest[:2]
        second = await desk.store.search(JobFilter(), limit=2, after=first[-1].id)
        assert [view.id for view in second] == newest[2:4]
        third = await desk.store.search(JobFilter(), limit=2, after=second[-1].id)
        assert [view.id for view in third] == newest[4:]
        assert list(await desk.store.search(JobFilter(), limit=2, after=third[-1].id)) == []

    async def test_each_filter_of_a_search_holds_alone_and_together(self, desk: Desk) -> None:
        wanted = desk.job(name="refund", queue="q", key="k", tags=("x", "y"), correlation="c")
        other = desk.job(name="refun", queue="Q", key="kk", tags=("xy",), correlation="cc")
        plain = desk.job()
        await desk.store.enqueue([wanted, other, plain])
        await desk.start(wanted)
        filters = [
            JobFilter(states=[State.RUNNING, State.DEAD]),
            JobFilter(job="refund"),
            JobFilter(queue="q"),
            JobFilter(key="k"),
            JobFilter(tag="y"),
            JobFilter(correlation="c"),
            JobFilter(states=[State.RUNNING], job="refund", queue="q", key="k", tag="x"),
        ]
        for each in filters:
            views = await desk.store.search(each, limit=10)
            assert [view.id for view in views] == [wanted.head.id], each
        for nothing in (JobFilter(states=[]), JobFilter(job="refund", queue="Q")):
            assert list(await desk.store.search(nothing, limit=10)) == []

    async def test_a_search_by_time_looks_at_when_the_job_was_first_published(
        self, desk: Desk
    ) -> None:
        early = desk.job()
        await desk.harness.pass_time(timedelta(milliseconds=20))
        late = desk.job()
        await desk.store.enqueue([late, early])
        between = early.head.first_at + timedelta(milliseconds=10)
        (before,) = await desk.store.search(JobFilter(before=between), limit=10)
        (after,) = await desk.store.search(JobFilter(after=between), limit=10)
        assert (before.id, after.id) == (early.head.id, late.head.id)

    async def test_a_search_leaves_out_message_and_log(self, desk: Desk) -> None:
        run = await desk.start(desk.job())
        verdict = run.verdict(State.SUCCEEDED, result=b"1", note="fine", log=["a line"])
        await desk.finish(verdict)
        (found,) = await desk.store.search(JobFilter(), limit=10)
        assert (found.message, list(found.log)) == (None, [])
        assert (found.result, found.note, found.state) == (b"1", "fine", State.SUCCEEDED)

    async def test_counts_are_by_queue_and_state(self, desk: Desk) -> None:
        assert dict(await desk.store.counts()) == {}
        jobs = [desk.job(queue="a"), desk.job(queue="a"), desk.job(queue="b")]
        await desk.store.enqueue(jobs)
        await desk.start(jobs[0])
        assert dict(await desk.store.counts()) == {
            ("a", State.RUNNING): 1,
            ("a", State.QUEUED): 1,
            ("b", State.QUEUED): 1,
        }
        await desk.store.cancel(jobs[2].head.id)
        assert (await desk.store.counts())["b", State.CANCELLED] == 1
        assert ("b", State.QUEUED) not in await desk.store.counts()
