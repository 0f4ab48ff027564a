"""Cases: what is published is refused or kept, whole, and goes to its lane only."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from brokerq.broker import Ack, Lane, Outgoing
from brokerq.errors import BodyTooLargeError, PublishError
from brokerq.message import Message
from brokerq.testing.broker_cases import BrokerCases, Place, bodies, in_time
from brokerq.testing.harness import FullBroker

_ROOM_FOR_HEADERS = 4_096


class PublishingCases(BrokerCases):
    """Publishing."""

    async def test_a_hundred_messages_arrive_with_headers_and_bodies_byte_for_byte(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        every_byte = bytes(range(256))
        sent = [place.outgoing(lane, every_byte * n) for n in range(100)]
        await broker.publish(sent)
        async with broker.consume(lane, prefetch=100) as consumer:
            got = {d.id: d for d in await place.receive(consumer, 100)}
            for outgoing in sent:
                assert got[outgoing.id].message == outgoing.message
                assert got[outgoing.id].lane == lane

    async def test_a_message_near_the_size_limit_is_taken_whole(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        limit = broker.capabilities.max_body or 2 * 1024 * 1024
        large = place.outgoing(lane, b"\x00\xff" * ((limit - _ROOM_FOR_HEADERS) // 2))
        await broker.publish([large])
        async with broker.consume(lane, prefetch=1) as consumer:
            assert (await place.receive_one(consumer)).message == large.message

    async def test_a_message_over_the_size_limit_is_refused_before_anything_is_sent(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        limit = broker.capabilities.max_body
        small = place.outgoing(lane)
        if limit is None:
            large = place.outgoing(lane, bytes(8 * 1024 * 1024))
            await broker.publish([small, large])
            await place.settles(broker, lane.queue, lambda s: s.ready == 2)
            return
        by_body = place.outgoing(lane, bytes(limit + 1))
        by_header = Outgoing(
            lane=lane,
            message=Message(headers={**small.message.headers, "long": "é" * limit}, body=b""),
            id=small.id,
        )
        for large in (by_body, by_header):
            with pytest.raises(BodyTooLargeError):
                await broker.publish([small, large])
        await place.is_empty(broker, lane.queue)

    @pytest.mark.parametrize("missing", [Lane(queue="nobody"), Lane(queue="jobs", level="nobody")])
    async def test_an_undeclared_lane_is_refused_by_position_and_the_rest_is_taken(
        self, place: Place, broker: FullBroker, lane: Lane, missing: Lane
    ) -> None:
        batch = [place.outgoing(to) for to in (lane, missing, lane, missing)]
        with pytest.raises(PublishError, match="nobody") as refused:
            await broker.publish(batch)
        assert refused.value.failed == (1, 3)
        assert refused.value.unknown == ()
        async with broker.consume(lane, prefetch=4) as consumer:
            taken = await place.receive(consumer, 2)
            assert {d.id for d in taken} == {batch[0].id, batch[2].id}
            await place.nothing_arrives(consumer)

    async def test_publishing_nothing_is_harmless(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([])
        await place.is_empty(broker, lane.queue)

    async def test_what_was_confirmed_is_kept_though_every_broker_closes(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        sent = [place.outgoing(lane) for _ in range(20)]
        await broker.publish(sent)
        await broker.close()
        reader = await place.another()
        async with reader.consume(lane, prefetch=20) as consumer:
            got = await place.receive(consumer, 20)
            assert {d.id for d in got} == {outgoing.id for outgoing in sent}

    async def test_a_batch_larger_than_one_round_trip_is_taken_whole(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        size = min(broker.capabilities.max_batch, 1_000) + 1
        await broker.publish([place.outgoing(lane) for _ in range(size)])
        await place.settles(broker, lane.queue, lambda s: s.ready == size)

    async def test_a_thousand_messages_reach_twenty_consumers_exactly_once(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        sent = [place.outgoing(lane) for _ in range(1_000)]
        got = Counter[str | None]()
        complete = asyncio.Event()

        async def work(own: FullBroker) -> None:
            async with own.consume(lane, prefetch=10) as consumer:
                while True:
                    deliveries = await consumer.receive(10)
                    done = await consumer.settle([(d, Ack()) for d in deliveries])
                    got.update(d.id for d, ok in zip(deliveries, done, strict=True) if ok)
                    if got.total() >= len(sent):
                        complete.set()

        brokers = [await place.another() for _ in range(4)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(brokers[n % 4])) for n in range(20)]
            for start in range(0, len(sent), 100):
                await broker.publish(sent[start : start + 100])
            await in_time(complete.wait())
            for task in tasks:
                task.cancel()
        assert got == Counter(outgoing.id for outgoing in sent)
        await place.is_empty(broker, lane.queue)

    async def test_queues_levels_and_apps_do_not_see_each_others_messages(
        self, place: Place, broker: FullBroker
    ) -> None:
        other_app = await place.another(prefix=f"{place.prefix}x")
        specs = [place.spec("jobs", levels=("high", "low")), place.spec("mail")]
        lanes = [Lane(queue="jobs", level="high"), Lane(queue="jobs", level="low")]
        lanes.append(Lane(queue="mail"))
        sent: dict[bytes, tuple[FullBroker, Lane]] = {}
        for app in (broker, other_app):
            await app.declare(specs)
            for lane in lanes:
                outgoing = place.outgoing(lane)
                sent[outgoing.message.body] = (app, lane)
                await app.publish([outgoing])
        for body, (app, lane) in sent.items():
            async with app.consume(lane, prefetch=9) as consumer:
                assert bodies(await place.receive(consumer)) == [body]
                await place.nothing_arrives(consumer)

    async def test_headers_changed_after_publishing_do_not_change_the_message(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        headers = {"bq-id": "one", "mine": "before"}
        message = Message(headers=headers, body=b"{}")
        await broker.publish([Outgoing(lane=lane, message=message, id="one")])
        headers["mine"] = "after"
        async with broker.consume(lane, prefetch=1) as consumer:
            delivery = await place.receive_one(consumer)
            assert delivery.message.headers == {"bq-id": "one", "mine": "before"}

    async def test_a_foreign_message_is_delivered_with_the_headers_it_has(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        body = b'{"order_id": "o-1"}'
        if place.harness.foreign is not None:
            await place.harness.foreign(place.prefix, lane, body)
        else:
            bare = Message(headers={}, body=body)
            await broker.publish([Outgoing(lane=lane, message=bare, id="given-to-the-broker")])
        async with broker.consume(lane, prefetch=1) as consumer:
            delivery = await place.receive_one(consumer)
            assert delivery.message == Message(headers={}, body=body)
            assert delivery.id is None or delivery.id
            assert await consumer.settle([(delivery, Ack())]) == [True]
        await place.is_empty(broker, lane.queue)
