"""Cases: counting and purging."""

from __future__ import annotations

from datetime import timedelta

from brokerq.broker import Ack, Dead, Lane, QueueStats
from brokerq.testing.broker_cases import BrokerCases, Place, letters
from brokerq.testing.harness import FullBroker


class StatsCases(BrokerCases):
    """How queues stand."""

    async def test_an_empty_queue_counts_nothing(self, broker: FullBroker, lane: Lane) -> None:
        assert await broker.stats([lane.queue]) == [
            QueueStats(queue="jobs", ready=0, in_flight=0, delayed=0, dead=0, oldest=None)
        ]
        assert await broker.stats([]) == []

    async def test_ready_in_flight_delayed_and_dead_are_counted_apart(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        delay = place.harness.lease * 4
        can_delay = (longest := broker.capabilities.max_delay) is None or longest >= delay
        await broker.publish([place.outgoing(lane) for _ in range(6)])
        if can_delay:
            await broker.publish([place.outgoing(lane, delay=delay) for _ in range(2)])
        async with broker.consume(lane, prefetch=3) as consumer:
            held = await place.receive(consumer, 3)
            await consumer.settle([(held[0], Dead(message=held[0].message))])
            await place.settles(
                await place.another(),
                lane.queue,
                lambda s: (
                    (s.in_flight, s.delayed, s.dead) == (2, 2 if can_delay else 0, 1)
                    and s.ready == 3
                ),
            )

    async def test_every_level_of_a_queue_counts_and_each_queue_by_itself(
        self, place: Place, broker: FullBroker
    ) -> None:
        await broker.declare([place.spec("a", levels=("high", "low")), place.spec("b")])
        await broker.publish([place.outgoing(Lane(queue="a", level=n)) for n in ("high", "low")])
        await place.settles(broker, "a", lambda s: s.ready == 2)
        assert [(s.queue, s.ready) for s in await broker.stats(["b", "a"])] == [("b", 0), ("a", 2)]

    async def test_the_age_of_the_oldest_ready_message_grows_if_it_is_known(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane)])
        await place.harness.pass_time(place.harness.lease / 2)
        await broker.publish([place.outgoing(lane)])
        stats = await place.settles(broker, lane.queue, lambda s: s.ready == 2)
        if stats.oldest is not None:
            half = place.harness.lease / 2
            slack = place.harness.tolerance
            assert half - slack <= stats.oldest <= half + place.harness.lease
            async with broker.consume(lane, prefetch=2) as consumer:
                held = await place.receive(consumer, 2)
                await consumer.settle([(d, Ack()) for d in held])
            assert (await broker.stats([lane.queue]))[0].oldest is None

    async def test_purging_leaves_what_is_in_flight_or_dead(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane) for _ in range(5)])
        can_delay = broker.capabilities.max_delay != timedelta(0)
        if can_delay:
            await broker.publish([place.outgoing(lane, delay=place.harness.lease / 2)])
        async with broker.consume(lane, prefetch=2) as consumer:
            dead, kept = await place.receive(consumer, 2)
            await consumer.settle([(dead, Dead(message=dead.message))])
            assert await broker.purge(lane.queue) == 3 + can_delay
            assert await broker.purge(lane.queue) == 0
            await place.nothing_arrives(consumer, place.harness.lease * 0.6)
            assert await consumer.settle([(kept, Ack())]) == [True]
        await place.is_empty(broker, lane.queue)
        assert await letters(broker, lane.queue) == [dead.message]
