"""What a worker does beside its jobs."""

from __future__ import annotations

from datetime import timedelta

import pytest

from brokerq import LetterFilter, Limits, Reject
from tests.engine.conftest import Place, working


async def test_a_dead_letter_that_is_forgotten_leaves_the_broker_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the catalogue has forgotten it nobody would find it in the broker's queue."""
    monkeypatch.setattr("brokerq.engine.upkeep.SWEEP_INTERVAL", 0.02)
    monkeypatch.setattr("brokerq.engine.upkeep.SWEEP_LIMIT", 2)
    bq = place.app(limits=Limits(dead=timedelta(days=1)))

    @bq.job()
    async def refuse() -> None:
        raise Reject("never")

    handles = [await refuse.publish() for _ in range(3)]
    async with working(bq):
        for handle in handles:
            await handle.wait("30s")
    assert [each.dead for each in await bq.queues.stats(["default"])] == [3]

    forgetful = place.app(limits=Limits(dead=timedelta(0)))
    forgetful.queue("default")
    async with working(forgetful):
        while (await bq.queues.stats(["default"]))[0].dead:
            pass
        while await bq.dead_letters.search(LetterFilter(), limit=10):
            pass
