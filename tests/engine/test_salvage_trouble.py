"""What the broker gives up on while store or broker are away, or the worker stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import pytest
from brokerq_memory import MemoryStore

from brokerq import State
from brokerq.broker import Consumer
from brokerq.errors import ConnectionLostError, StoreUnavailableError
from brokerq.record import ClaimAnswer
from brokerq.store import Claim
from tests.engine.conftest import NarrowPlace, eventually, working
from tests.engine.test_salvage import give_up, place
from tests.narrow import NarrowBroker

__all__ = ["place"]


async def test_while_the_store_is_away_dead_letters_wait(
    place: NarrowPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bq = place.app()
    monkeypatch.setattr("brokerq.engine.salvage.FIRST_BACKOFF", 0.01)
    claim = MemoryStore.claim
    refused = 0

    async def away(store: MemoryStore, claims: Sequence[Claim]) -> Sequence[ClaimAnswer]:
        nonlocal refused
        if refused < 3:
            refused += 1
            raise StoreUnavailableError("the store is away")
        return await claim(store, claims)

    @bq.job()
    async def work() -> None: ...

    handle = await work.publish()
    await give_up(place, handle.id)
    monkeypatch.setattr(MemoryStore, "claim", away)
    place.how.settled.clear()

    async with working(bq):
        view = await handle.wait("30s")

    assert refused == 3
    assert view.state == State.DEAD
    assert len(place.how.settled) == 1, "it was held, not given back again and again"


async def test_a_worker_that_stops_leaves_what_waits_to_the_next(
    place: NarrowPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bq = place.app()
    tried: list[Sequence[Claim]] = []

    async def away(_store: MemoryStore, claims: Sequence[Claim]) -> Sequence[ClaimAnswer]:
        tried.append(claims)
        raise StoreUnavailableError("the store is away")

    @bq.job()
    async def work() -> None: ...

    handle = await work.publish()
    await give_up(place, handle.id)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "claim", away)
        async with working(bq):
            await eventually(lambda: len(tried) > 0)

    async with working(bq):
        view = await handle.wait("30s")
    assert view.state == State.DEAD


async def test_salvaging_begins_anew_when_the_broker_was_lost(
    place: NarrowPlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bq = place.app()
    monkeypatch.setattr("brokerq.engine.lanes.FIRST_BACKOFF", 0.01)
    salvage = NarrowBroker.salvage
    lost = 0

    def lose(
        broker: NarrowBroker, queue: str, *, prefetch: int
    ) -> AbstractAsyncContextManager[Consumer]:
        nonlocal lost
        if lost < 2:
            lost += 1
            return _Lost()
        return salvage(broker, queue, prefetch=prefetch)

    monkeypatch.setattr(NarrowBroker, "salvage", lose)

    @bq.job()
    async def work() -> None: ...

    handle = await work.publish()
    await give_up(place, handle.id)
    with caplog.at_level(logging.WARNING, "brokerq.worker"):
        async with working(bq):
            view = await handle.wait("30s")

    assert (lost, view.state) == (2, State.DEAD)
    assert "what the broker gave up on in default" in caplog.text


class _Lost(AbstractAsyncContextManager[Consumer]):
    async def __aenter__(self) -> Consumer:
        raise ConnectionLostError("the broker is away")

    async def __aexit__(self, *_about: object) -> None: ...


async def test_a_broker_that_does_not_answer_holds_up_no_job(
    place: NarrowPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bq = place.app()
    hung = asyncio.Event()

    class Hung(_Lost):
        async def __aenter__(self) -> Consumer:
            hung.set()
            await asyncio.Event().wait()
            return await super().__aenter__()

    def hang(_broker: NarrowBroker, _queue: str, *, prefetch: int) -> Hung:
        return Hung()

    monkeypatch.setattr(NarrowBroker, "salvage", hang)

    @bq.job()
    async def work() -> str:
        return "done"

    handle = await work.publish()
    report = await asyncio.wait_for(bq.run_worker(burst=True), 10)

    assert hung.is_set()
    assert report.outcomes == {"succeeded": 1}
    assert await handle.result() == "done"
