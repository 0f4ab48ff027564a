"""Cases: what the broker gives up on by itself is handed over, once, to be judged."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import cast

import pytest

from brokerq.broker import Ack, Backstop, Consumer, Dead, Delivery, Lane, Outgoing, Release
from brokerq.errors import BrokerqError, UnknownQueueError
from brokerq.message import Message
from brokerq.testing.broker_cases import BrokerCases, Place, in_time, letters
from brokerq.testing.harness import FullBroker


class SalvageCases(BrokerCases):
    """The broker's own dead letters, where it makes any."""

    async def test_a_message_that_was_given_up_is_handed_over_as_it_was_published(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        if _has_no_limit(place, broker):
            return
        sent = place.outgoing(lane, bytes(range(256)))
        await _give_up(place, broker, sent)
        async with _salvaging(broker, lane.queue) as consumer:
            delivery = await place.receive_one(consumer)
            assert (delivery.message, delivery.id) == (sent.message, sent.id)
            assert delivery.lane == lane
            await place.nothing_arrives(consumer)

    async def test_a_message_judged_dead_is_a_dead_letter_and_not_handed_over_again(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        if _has_no_limit(place, broker):
            return
        sent = place.outgoing(lane)
        await _give_up(place, broker, sent)
        async with _salvaging(broker, lane.queue) as consumer:
            delivery = await place.receive_one(consumer)
            letter = Message(
                headers={**sent.message.headers, "bq-dead-reason": "crash_loop"},
                body=sent.message.body,
            )
            assert await consumer.settle([(delivery, Dead(message=letter))]) == [True]
            await place.nothing_arrives(consumer, 2 * place.harness.lease)
        other = await place.another()
        async with _salvaging(other, lane.queue) as consumer:
            await place.nothing_arrives(consumer)
        assert await letters(other, lane.queue) == [letter]
        assert (await other.stats([lane.queue]))[0].dead == 1
        assert await other.discard(lane.queue, [(sent.id, 0)]) == 1
        assert await letters(other, lane.queue) == []

    async def test_a_message_judged_done_with_is_no_dead_letter(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        if _has_no_limit(place, broker):
            return
        await _give_up(place, broker, place.outgoing(lane))
        async with _salvaging(broker, lane.queue) as consumer:
            delivery = await place.receive_one(consumer)
            assert await consumer.settle([(delivery, Ack())]) == [True]
            await place.nothing_arrives(consumer, 2 * place.harness.lease)
        assert await letters(broker, lane.queue) == []
        await place.settles(broker, lane.queue, lambda s: s.dead == 0)

    async def test_a_message_given_back_is_handed_over_again(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        if _has_no_limit(place, broker):
            return
        sent = place.outgoing(lane)
        await _give_up(place, broker, sent)
        async with _salvaging(broker, lane.queue) as consumer:
            first = await place.receive_one(consumer)
            assert await consumer.settle([(first, Release())]) == [True]
            second = await _once_more(place, consumer)
            assert second.message == sent.message
            delay = place.harness.lease / 2
            assert await consumer.settle([(second, Release(delay=delay))]) == [True]
            third = await _once_more(place, consumer)
            assert third.message == sent.message
            assert await consumer.settle([(first, Ack()), (third, Ack())]) == [False, True]

    async def test_what_was_not_judged_is_handed_over_to_the_next(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        if _has_no_limit(place, broker):
            return
        sent = [place.outgoing(lane) for _ in range(2)]
        for each in sent:
            await _give_up(place, broker, each)
        async with _salvaging(broker, lane.queue) as consumer:
            held = await place.receive(consumer, 2)
        async with _salvaging(await place.another(), lane.queue) as consumer:
            again = await place.receive(consumer, 2)
            assert {d.id for d in again} == {each.id for each in sent}
        assert await consumer.settle([(held[0], Ack())]) == [False]

    async def test_an_extended_lease_of_what_was_given_up_lasts_longer(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        if _has_no_limit(place, broker):
            return
        await _give_up(place, broker, place.outgoing(lane))
        heir = await place.another()
        async with (
            _salvaging(broker, lane.queue) as owner,
            _salvaging(heir, lane.queue) as consumer,
        ):
            delivery = await place.receive_one(owner)
            for _ in range(2):
                await place.nothing_arrives(consumer, place.harness.lease * 0.6)
                assert await owner.extend([delivery]) == [True]
            assert await owner.settle([(delivery, Ack())]) == [True]
            await place.nothing_arrives(consumer)

    async def test_only_what_the_broker_gave_up_is_handed_over(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        if _has_no_limit(place, broker):
            return
        await broker.declare([place.spec("mail")])
        await _give_up(place, broker, given_up := place.outgoing(lane))
        await broker.publish([ready := place.outgoing(lane), buried := place.outgoing(lane)])
        async with broker.consume(lane, prefetch=2) as consumer:
            for delivery in await place.receive(consumer, 2):
                verdict = Dead(message=delivery.message) if delivery.id == buried.id else Release()
                assert await consumer.settle([(delivery, verdict)]) == [True]
        async with _salvaging(broker, "mail") as consumer:
            await place.nothing_arrives(consumer)
        async with _salvaging(broker, lane.queue) as consumer:
            assert (await place.receive_one(consumer)).id == given_up.id
            await place.nothing_arrives(consumer)
        assert ready.id not in {m.headers["bq-id"] for m in await letters(broker, lane.queue)}

    async def test_salvaging_needs_an_open_broker_and_a_declared_queue(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        if _has_no_limit(place, broker):
            return
        with pytest.raises(UnknownQueueError, match="nobody"):
            await in_time(_salvage_one(broker, "nobody"))
        await broker.close()
        with pytest.raises(BrokerqError, match=r"open|closed"):
            await in_time(_salvage_one(broker, lane.queue))


def _has_no_limit(place: Place, broker: FullBroker) -> bool:
    """Tell whether the broker never gives up by itself; the harness must say the same."""
    assert isinstance(broker, Backstop) is (place.harness.exhaust is not None)
    return place.harness.exhaust is None


async def _give_up(place: Place, broker: FullBroker, outgoing: Outgoing) -> None:
    assert place.harness.exhaust is not None
    await broker.publish([outgoing])
    await place.harness.exhaust(place.prefix, outgoing)


def _salvaging(broker: FullBroker, queue: str) -> AbstractAsyncContextManager[Consumer]:
    return cast("Backstop", broker).salvage(queue, prefetch=10)


async def _salvage_one(broker: FullBroker, queue: str) -> None:
    async with _salvaging(broker, queue) as consumer:
        await consumer.receive(1)


async def _once_more(place: Place, consumer: Consumer) -> Delivery:
    """Receive what was given back, which may take a while: time passes."""
    await place.harness.pass_time(place.harness.lease)
    return await place.receive_one(consumer)
