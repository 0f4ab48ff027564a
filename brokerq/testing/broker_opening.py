"""Cases: declaring, opening and closing, and whether the capabilities are true."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from brokerq.broker import Durability, Lane, Ordering
from brokerq.duration import ZERO
from brokerq.errors import BrokerqError, CapabilityError, DriftError
from brokerq.testing.broker_cases import PATIENCE, BrokerCases, Place, in_time
from brokerq.testing.harness import FullBroker


class OpeningCases(BrokerCases):
    """Declaring, opening and closing."""

    async def test_declaring_twice_is_harmless(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane)])
        other = await place.another()
        for again in (broker, other):
            await again.declare([place.spec(lane.queue)])
            await again.declare([place.spec(lane.queue)], create=False)
        await place.settles(broker, lane.queue, lambda s: s.ready == 1)

    async def test_a_missing_queue_is_named_and_not_created_where_it_is_only_checked(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        with pytest.raises(DriftError, match="nobody"):
            await broker.declare([place.spec(lane.queue), place.spec("nobody")], create=False)
        with pytest.raises(DriftError, match="nobody"):
            await broker.declare([place.spec("nobody")], create=False)

    @pytest.mark.parametrize("create", [True, False])
    async def test_every_queue_with_other_levels_is_named(
        self, place: Place, broker: FullBroker, *, create: bool
    ) -> None:
        await broker.declare([place.spec("a"), place.spec("b"), place.spec("c")])
        changed = [
            place.spec("a", levels=("high",)),
            place.spec("b"),
            place.spec("c", levels=("x",)),
        ]
        with pytest.raises(DriftError) as drift:
            await broker.declare(changed, create=create)
        text = str(drift.value)
        assert "high" in text
        assert "normal" in text
        assert "x" in text

    async def test_a_queue_that_is_to_be_ordered_now_is_drift_or_refused(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        ordered = broker.capabilities.ordering is not Ordering.NONE
        with pytest.raises(DriftError if ordered else CapabilityError, match=lane.queue):
            await broker.declare([place.spec(lane.queue, ordered=True)])

    async def test_a_lease_may_change(self, place: Place, broker: FullBroker, lane: Lane) -> None:
        longer = replace(place.spec(lane.queue), lease=place.harness.lease * 2)
        await broker.declare([longer])
        await broker.declare([longer], create=False)

    async def test_more_levels_than_the_broker_can_keep_are_refused(
        self, place: Place, broker: FullBroker
    ) -> None:
        most = broker.capabilities.max_levels
        levels = [f"level-{n}" for n in range((most or 19) + 1)]
        if most is None:
            await broker.declare([place.spec("many", levels=levels)])
            await broker.publish([place.outgoing(Lane(queue="many", level=levels[-1]))])
        else:
            with pytest.raises(CapabilityError):
                await broker.declare([place.spec("many", levels=levels)])

    async def test_a_broker_that_is_not_open_says_so(self, place: Place) -> None:
        await _all_refused(place, place.harness.make(place.prefix))

    @pytest.mark.usefixtures("lane")
    async def test_a_broker_that_was_closed_says_so(self, place: Place, broker: FullBroker) -> None:
        await broker.close()
        await _all_refused(place, broker)

    async def test_opening_twice_is_harmless(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.open()
        await broker.publish([place.outgoing(lane)])
        await place.settles(broker, lane.queue, lambda s: s.ready == 1)

    async def test_closing_a_broker_that_was_never_opened_is_harmless(self, place: Place) -> None:
        await in_time(place.harness.make(place.prefix).close())

    async def test_ten_closes_at_once_lose_nothing_and_none_fails(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        sent = [place.outgoing(lane) for _ in range(10)]
        await broker.publish(sent)
        other = await place.another()
        async with broker.consume(lane, prefetch=4) as consumer:
            await place.receive(consumer, 4)
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(broker.close() for _ in range(10)))
        await in_time(broker.close())
        async with other.consume(lane, prefetch=10) as heir:
            got = await place.receive(heir, 10)
            assert {d.id for d in got} == {outgoing.id for outgoing in sent}

    async def test_the_capabilities_are_known_before_opening_and_stay(self, place: Place) -> None:
        broker = place.harness.make(place.prefix)
        before = broker.capabilities
        await (opened := await place.another()).close()
        assert opened.capabilities == before
        assert broker.capabilities == before

    async def test_the_capabilities_make_sense(self, broker: FullBroker) -> None:
        told = broker.capabilities
        assert told.max_body is None or told.max_body >= 64 * 1024
        assert told.max_delay is None or told.max_delay >= ZERO
        assert told.max_batch >= 1
        assert told.lease is None or told.lease > ZERO
        assert told.max_levels is None or told.max_levels >= 1
        assert isinstance(told.durability, Durability)
        assert told.ordering is Ordering.PER_KEY or not told.delayed_ordering


async def _all_refused(place: Place, broker: FullBroker) -> None:
    lane = Lane(queue="jobs")

    async def consume() -> None:
        async with broker.consume(lane, prefetch=1) as consumer:
            await consumer.receive(1)

    async def browse() -> None:
        async with broker.browse(lane.queue) as found:
            await anext(aiter(found))

    uses: list[Callable[[], Awaitable[object]]] = [
        lambda: broker.declare([place.spec(lane.queue)]),
        lambda: broker.publish([place.outgoing(lane)]),
        consume,
        lambda: broker.stats([lane.queue]),
        lambda: broker.purge(lane.queue),
        browse,
        lambda: broker.discard(lane.queue, [("a", 0)]),
    ]
    for use in uses:
        with pytest.raises(BrokerqError, match=r"open|closed"):
            await in_time(use())
