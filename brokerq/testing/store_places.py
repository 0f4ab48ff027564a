"""Cases of `StoreContract`: pauses, apps beside each other, opening, closing and outages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from brokerq.catalogue import LetterFilter, LetterState, NotRedriven
from brokerq.duration import ZERO
from brokerq.errors import NotFoundError, StorageError, StoreUnavailableError
from brokerq.records import Claimed, Hold, Recorded, Reserved, State
from brokerq.store import Claim, JobFilter, Store
from brokerq.testing.store_desk import ANN, KEEP, LONG, Desk, Run, StoreCases, kept

CALLS: dict[str, Callable[[Store, Run], Awaitable[object]]] = {
    "claim": lambda s, r: s.claim([Claim(job=r.job, owner=ANN, lease=LONG)]),
    "renew": lambda s, r: s.renew([r.holding], lease=LONG),
    "finish": lambda s, r: s.finish([r.verdict(State.SUCCEEDED)]),
    "reserve": lambda s, r: s.reserve([r.job], owner=ANN, lease=LONG),
    "enqueue": lambda s, r: s.enqueue([r.job]),
    "free": lambda s, r: s.free([r.id], owner=ANN),
    "cancel": lambda s, r: s.cancel(r.id),
    "get": lambda s, r: s.get([r.id]),
    "search": lambda s, _: s.search(JobFilter(), limit=1),
    "counts": lambda s, _: s.counts(),
    "prune": lambda s, _: s.prune(KEEP, limit=1),
    "letters": lambda s, _: s.letters(LetterFilter(), limit=1),
    "begin_redrive": lambda s, r: s.begin_redrive([r.id], by="eve", force=False, lease=LONG),
    "end_redrive": lambda s, _: s.end_redrive([]),
    "lapsed_redrives": lambda s, _: s.lapsed_redrives(limit=1),
    "close_letters": lambda s, r: s.close_letters(
        [r.id], state=LetterState.RESOLVED, by="eve", note=None
    ),
    "pause": lambda s, _: s.pause("payments", by="eve"),
    "resume": lambda s, _: s.resume("payments"),
    "paused": lambda s, _: s.paused(),
    "schedule": lambda s, r: s.schedule([kept(r.job)]),
    "take": lambda s, _: s.take(owner=ANN, lease=LONG, ahead=LONG, limit=1),
    "sent": lambda s, _: s.sent([1], owner=ANN),
    "put_back": lambda s, _: s.put_back([1], owner=ANN, delay=LONG),
    "next_due": lambda s, _: s.next_due(ahead=ZERO),
    "outbox": lambda s, _: s.outbox(),
}


class PauseCases(StoreCases):
    """Queues that are paused for every worker."""

    async def test_a_pause_is_seen_by_every_store_until_it_is_undone(self, desk: Desk) -> None:
        other = await desk.harness.another()
        assert set(await other.paused()) == set()
        await desk.store.pause("payments", by="eve")
        await desk.store.pause("payments", by="adam")
        await other.pause("emails", by="eve")
        assert set(await other.paused()) == {"payments", "emails"}
        assert set(await desk.store.paused()) == {"payments", "emails"}
        await other.resume("payments")
        await other.resume("payments")
        await other.resume("never paused")
        assert set(await desk.store.paused()) == {"emails"}


class PlaceCases(StoreCases):
    """Apps beside each other in one place; what survives, what is refused."""

    async def test_apps_do_not_see_each_other(self, desk: Desk) -> None:
        job, dead = desk.job(key="order-1", fingerprint="a"), desk.job()
        run = await desk.start(job)
        await desk.bury(dead)
        await desk.store.pause("payments", by="eve")
        other = await desk.harness.another("other")
        assert list(await other.get([job.head.id, dead.head.id])) == [None, None]
        assert list(await other.search(JobFilter(), limit=10)) == []
        assert dict(await other.counts()) == {}
        assert list(await other.letters(LetterFilter(states=None), limit=10)) == []
        assert set(await other.paused()) == set()
        with pytest.raises(NotFoundError):
            await other.cancel(job.head.id)
        assert list(await other.renew([run.holding], lease=LONG)) == [Hold.LOST]
        assert await desk.finish(run.verdict(State.SUCCEEDED), store=other) is None
        (refused,) = await other.begin_redrive([dead.head.id], by="e", force=True, lease=LONG)
        assert isinstance(refused, NotRedriven)
        assert refused.missing
        state = LetterState.DISCARDED
        assert list(await other.close_letters([dead.head.id], state=state, by="e", note=None)) == [
            False
        ]
        assert await desk.state(job) == State.RUNNING

    async def test_apps_may_use_the_same_ids_and_keys(self, desk: Desk) -> None:
        job = desk.job(id="the-same", key="order-1", fingerprint="a")
        twin = desk.job(id="the-same", key="order-1", fingerprint="b")
        other = await desk.harness.another("other")
        assert await desk.reserve(job) == Reserved(id="the-same")
        assert await desk.reserve(twin, store=other) == Reserved(id="the-same")
        run = await desk.start(job)
        await desk.start(twin, store=other)
        await desk.finish(run.verdict(State.SUCCEEDED, result=b"1"))
        assert (await desk.view(twin, store=other)).state == State.RUNNING
        await other.pause("payments", by="eve")
        assert set(await desk.store.paused()) == set()

    async def test_what_one_store_wrote_another_reads(self, desk: Desk) -> None:
        run = await desk.start(desk.job())
        other = await desk.harness.another()
        verdict = run.verdict(State.SUCCEEDED, attempt=True, result=b"1", log=["line"])
        assert await desk.finish(verdict, store=other) == State.SUCCEEDED
        assert isinstance(await desk.claim(run.job), Recorded)
        assert await desk.view(run.job) == await desk.view(run.job, store=other)

    async def test_records_outlive_the_store_object(self, desk: Desk) -> None:
        run = await desk.start(desk.job(), lease=ZERO)
        await desk.store.close()
        later = await desk.harness.another()
        taken = await desk.start(run.job, "bob", store=later)
        assert taken.answer.fence > run.answer.fence
        assert taken.answer.crashes == 1

    async def test_opening_twice_is_harmless(self, desk: Desk) -> None:
        run = await desk.start(desk.job())
        await desk.store.open()
        assert await desk.finish(run.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    async def test_ten_concurrent_closes_are_harmless(self, desk: Desk) -> None:
        run = await desk.start(desk.job())
        other = await desk.harness.another()
        await asyncio.gather(*(other.close() for _ in range(10)))
        await other.close()
        assert await desk.finish(run.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    async def test_a_closed_store_says_so(
        self, desk: Desk, call: Callable[[Store, Run], Awaitable[object]]
    ) -> None:
        run = await desk.start(desk.job())
        other = await desk.harness.another()
        await other.close()
        with pytest.raises((StoreUnavailableError, StorageError)):
            await call(other, run)

    async def test_in_an_outage_every_call_says_so_and_nothing_is_lost(self, desk: Desk) -> None:
        run = await desk.start(desk.job())
        async with desk.harness.outage():
            for call in CALLS.values():
                with pytest.raises((StoreUnavailableError, StorageError)):
                    await call(desk.store, run)
        view = await desk.view(run.job)
        assert (view.state, view.cancelling) == (State.RUNNING, False)
        assert await desk.finish(run.verdict(State.SUCCEEDED)) == State.SUCCEEDED

    async def test_empty_batches_are_harmless(self, desk: Desk) -> None:
        store = desk.store
        assert list(await store.claim([])) == []
        assert list(await store.renew([], lease=LONG)) == []
        assert list(await store.finish([])) == []
        assert list(await store.reserve([], owner=ANN, lease=LONG)) == []
        assert list(await store.begin_redrive([], by="eve", force=False, lease=LONG)) == []
        await store.enqueue([])
        await store.free([], owner=ANN)
        assert list(await store.schedule([])) == []
        await store.sent([], owner=ANN)
        await store.put_back([], owner=ANN, delay=LONG)
        assert dict(await store.counts()) == {}

    async def test_a_batch_of_a_thousand_is_one_call(self, desk: Desk) -> None:
        claims = [Claim(job=desk.job(), owner=ANN, lease=LONG) for _ in range(1_000)]
        answers = await desk.store.claim(claims)
        assert all(isinstance(answer, Claimed) for answer in answers)
        assert await desk.store.counts() == {("payments", State.RUNNING): 1_000}
