"""Cases: a delay is kept or refused, never shortened."""

from __future__ import annotations

from datetime import timedelta

import pytest

from brokerq.broker import Ack, Lane
from brokerq.errors import CapabilityError
from brokerq.testing.broker_cases import BrokerCases, Place
from brokerq.testing.harness import FullBroker

_MONTH = timedelta(days=30)


class DelayCases(BrokerCases):
    """Delays of a publish."""

    async def test_a_delayed_message_arrives_when_it_is_due_and_not_before(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        delay = place.harness.lease / 2
        sent = place.outgoing(lane, delay=delay)
        since = place.harness.clock.monotonic()
        if await _is_refused(place, broker, lane, delay):
            return
        async with broker.consume(lane, prefetch=1) as consumer:
            await broker.publish([sent])
            arrived = await place.arrives_after(delay, consumer, since)
            assert arrived.message == sent.message

    async def test_a_consumer_that_waits_already_gets_a_delayed_message(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        """The earlier of two, too, though it was published by another broker, and later."""
        long, short = place.harness.lease, place.harness.lease / 2
        if await _is_refused(place, broker, lane, long):
            return
        publisher = await place.another()
        async with broker.consume(lane, prefetch=2) as consumer:
            late, early = (place.outgoing(lane, delay=delay) for delay in (long, short))
            await place.nothing_arrives(consumer)
            since = place.harness.clock.monotonic()
            await publisher.publish([late])
            await publisher.publish([early])
            assert (await place.arrives_after(short, consumer, since)).id == early.id
            assert (await place.arrives_after(long, consumer, since)).id == late.id

    async def test_a_long_delay_does_not_hold_up_what_is_ready(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        delay = place.harness.lease * 4
        if await _is_refused(place, broker, lane, delay):
            return
        await broker.publish([place.outgoing(lane, delay=delay)])
        prompt = place.outgoing(lane)
        await broker.publish([prompt])
        async with broker.consume(lane, prefetch=2) as consumer:
            assert (await place.receive_one(consumer)).id == prompt.id
            await place.nothing_arrives(consumer)

    async def test_no_delay_is_no_delay(self, place: Place, broker: FullBroker, lane: Lane) -> None:
        sent = place.outgoing(lane, delay=timedelta(0))
        await broker.publish([sent])
        async with broker.consume(lane, prefetch=1) as consumer:
            delivery = await place.receive_one(consumer)
            assert delivery.id == sent.id
            await consumer.settle([(delivery, Ack())])

    async def test_the_longest_delay_is_kept_and_a_longer_one_refused(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        longest = broker.capabilities.max_delay
        if longest is None:
            longest = _MONTH
        else:
            beyond = place.outgoing(lane, delay=longest + timedelta(seconds=1))
            with pytest.raises(CapabilityError):
                await broker.publish([place.outgoing(lane), beyond])
            await place.is_empty(broker, lane.queue)
        if longest:
            await broker.publish([place.outgoing(lane, delay=longest)])
            await place.settles(broker, lane.queue, lambda s: s.delayed == 1)
            async with broker.consume(lane, prefetch=1) as consumer:
                await place.nothing_arrives(consumer, place.harness.lease)


async def _is_refused(place: Place, broker: FullBroker, lane: Lane, delay: timedelta) -> bool:
    """Tell whether the broker cannot delay for so long; assert that it then says so."""
    longest = broker.capabilities.max_delay
    if longest is None or longest >= delay:
        return False
    with pytest.raises(CapabilityError):
        await broker.publish([place.outgoing(lane, delay=delay)])
    return True
