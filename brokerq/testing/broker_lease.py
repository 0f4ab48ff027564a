"""Cases: whoever loses a lease loses the delivery, whole, and learns of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from brokerq.broker import Ack, Consumer, Dead, Delivery, Lane, Release, Reschedule, Verdict
from brokerq.message import Message
from brokerq.testing.broker_cases import BrokerCases, Place, letters
from brokerq.testing.harness import FullBroker

_OTHER = Message(headers={"bq-id": "stray"}, body=b"must not be seen")


class LeaseCases(BrokerCases):
    """Leases. Where a broker has none, a delivery is lost with the connection instead."""

    async def test_a_delivery_whose_lease_was_lost_comes_back(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        sent = place.outgoing(lane)
        await broker.publish([sent])
        heir = await place.another()
        async with broker.consume(lane, prefetch=1) as owner:
            await place.receive_one(owner)
            async with heir.consume(lane, prefetch=1) as consumer:
                again = await _inherit(place, broker, consumer)
                assert again.message == sent.message
                assert await consumer.settle([(again, Ack())]) == [True]
        await place.is_empty(heir, lane.queue)

    async def test_a_lease_is_not_lost_before_its_time(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane)])
        heir = await place.another()
        async with (
            broker.consume(lane, prefetch=1) as owner,
            heir.consume(lane, prefetch=1) as consumer,
        ):
            delivery = await place.receive_one(owner)
            await place.nothing_arrives(consumer, place.harness.lease / 2)
            assert await owner.settle([(delivery, Ack())]) == [True]
        await place.is_empty(broker, lane.queue)

    async def test_an_extended_lease_lasts_longer(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        lease = place.harness.lease
        await broker.publish([place.outgoing(lane) for _ in range(2)])
        heir = await place.another()
        async with (
            broker.consume(lane, prefetch=2) as owner,
            heir.consume(lane, prefetch=1) as consumer,
        ):
            held = await place.receive(owner, 2)
            for _ in range(2):
                await place.nothing_arrives(consumer, lease * 0.6)
                assert await owner.extend(held) == [True, True]
            await place.nothing_arrives(consumer, lease * 0.6)
            assert await owner.settle([(d, Ack()) for d in held]) == [True, True]
        await place.is_empty(heir, lane.queue)

    async def test_only_the_extended_ones_are_kept(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        lease = place.harness.lease
        if broker.capabilities.lease is None:
            await self.test_an_extended_lease_lasts_longer(place, broker, lane)
            return
        await broker.publish([place.outgoing(lane) for _ in range(2)])
        heir = await place.another()
        async with (
            broker.consume(lane, prefetch=2) as owner,
            heir.consume(lane, prefetch=2) as consumer,
        ):
            kept, lost = await place.receive(owner, 2)
            await place.harness.pass_time(lease / 2)
            assert await owner.extend([kept]) == [True]
            await place.harness.pass_time(lease / 2)
            assert (await place.receive_one(consumer)).id == lost.id
            assert await owner.settle([(kept, Ack()), (lost, Ack())]) == [True, False]

    async def test_a_lost_lease_cannot_be_extended(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane)])
        heir = await place.another()
        async with broker.consume(lane, prefetch=1) as owner:
            delivery = await place.receive_one(owner)
            async with heir.consume(lane, prefetch=1) as consumer:
                await _inherit(place, broker, consumer)
                assert await owner.extend([delivery]) == [False]

    async def test_a_lease_that_nobody_took_over_is_lost_too(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane)])
        async with broker.consume(lane, prefetch=1) as owner:
            delivery = await place.receive_one(owner)
            await _lose(place, broker)
            assert await owner.settle([(delivery, Ack())]) == [False]
        heir = await place.another()
        async with heir.consume(lane, prefetch=1) as consumer:
            assert (await place.receive_one(consumer)).id == delivery.id

    @pytest.mark.parametrize(
        "verdict",
        [
            Ack(),
            Release(),
            Release(delay=timedelta(seconds=10)),
            Reschedule(delay=timedelta(0), message=_OTHER),
            Dead(message=_OTHER),
        ],
        ids=["ack", "release", "delayed release", "reschedule", "dead"],
    )
    async def test_a_verdict_after_the_lease_was_lost_is_refused_and_changes_nothing(
        self, place: Place, broker: FullBroker, lane: Lane, verdict: Verdict
    ) -> None:
        await broker.publish([place.outgoing(lane)])
        heir = await place.another()
        async with broker.consume(lane, prefetch=1) as owner:
            delivery = await place.receive_one(owner)
            async with heir.consume(lane, prefetch=2) as consumer:
                again = await _inherit(place, broker, consumer)
                assert await owner.settle([(delivery, verdict)]) == [False]
                await place.nothing_arrives(consumer)
                assert await consumer.extend([again]) == [True]
                assert await consumer.settle([(again, Ack())]) == [True]
        await place.is_empty(heir, lane.queue)
        assert await letters(heir, lane.queue) == []

    async def test_what_a_closed_broker_held_comes_back_at_once(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane) for _ in range(3)])
        heir = await place.another()
        async with broker.consume(lane, prefetch=3) as owner:
            held = await place.receive(owner, 3)
            await broker.close()
            async with heir.consume(lane, prefetch=3) as consumer:
                assert {d.id for d in await place.receive(consumer, 3)} == {d.id for d in held}
                assert await owner.settle([(d, Ack()) for d in held]) == [False] * 3


async def _lose(place: Place, owner: FullBroker) -> None:
    if owner.capabilities.lease is None:
        await owner.close()
    else:
        await place.harness.pass_time(place.harness.lease + place.harness.tolerance)


async def _inherit(place: Place, owner: FullBroker, heir: Consumer) -> Delivery:
    await place.nothing_arrives(heir)
    await _lose(place, owner)
    return await place.receive_one(heir)
