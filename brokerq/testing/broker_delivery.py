"""Cases: a delivery is settled once, and whatever is not settled comes back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from brokerq.broker import Ack, Counting, Dead, Delivery, Lane, Release, Reschedule, Verdict
from brokerq.errors import ConnectionLostError
from brokerq.message import Message
from brokerq.testing.broker_cases import (
    PATIENCE,
    BrokerCases,
    Place,
    bodies,
    cancel,
    in_time,
    letters,
)
from brokerq.testing.harness import FullBroker


class DeliveryCases(BrokerCases):
    """Receiving and settling."""

    async def test_an_acknowledged_message_is_gone(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane)])
        async with broker.consume(lane, prefetch=1) as consumer:
            delivery = await place.receive_one(consumer)
            assert await consumer.settle([(delivery, Ack())]) == [True]
            await place.nothing_arrives(consumer, 2 * place.harness.lease)
        await place.is_empty(broker, lane.queue)

    async def test_a_released_message_comes_back_the_same(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        sent = place.outgoing(lane)
        await broker.publish([sent])
        async with broker.consume(lane, prefetch=1) as consumer:
            first = await place.receive_one(consumer)
            assert await consumer.settle([(first, Release())]) == [True]
            second = await place.receive_one(consumer)
            assert second.message == sent.message
            assert second.id == sent.id
            assert await consumer.settle([(second, Ack())]) == [True]
        await place.is_empty(broker, lane.queue)

    async def test_deliveries_are_counted_as_the_capabilities_say(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane)])
        counts: list[int | None] = []
        async with broker.consume(lane, prefetch=1) as consumer:
            for _ in range(3):
                delivery = await place.receive_one(consumer)
                counts.append(delivery.count)
                await consumer.settle([(delivery, Release())])
        match broker.capabilities.counting:
            case Counting.NONE:
                assert counts == [None, None, None]
            case Counting.ALL:
                assert counts == [1, 2, 3]
            case Counting.FAILURES:
                assert counts == [1, 1, 1]

    async def test_a_message_released_with_a_delay_comes_back_then_and_not_before(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        delay = place.harness.lease / 2
        sent = place.outgoing(lane)
        await broker.publish([sent])
        async with broker.consume(lane, prefetch=1) as consumer:
            delivery = await place.receive_one(consumer)
            since = place.harness.clock.monotonic()
            assert await consumer.settle([(delivery, Release(delay=delay))]) == [True]
            back = await place.arrives_after(delay, consumer, since)
            assert back.message == sent.message
            await consumer.settle([(back, Ack())])
        await place.is_empty(broker, lane.queue)

    async def test_a_message_rescheduled_in_place_comes_back_itself(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        delay = place.harness.lease / 2
        sent = place.outgoing(lane)
        await broker.publish([sent])
        async with broker.consume(lane, prefetch=1) as consumer:
            delivery = await place.receive_one(consumer)
            if delivery.in_place < delay:  # then the core makes a copy; see the next case
                assert delivery.in_place >= timedelta(0)
                return
            since = place.harness.clock.monotonic()
            assert await consumer.settle([(delivery, Reschedule(delay=delay))]) == [True]
            back = await place.arrives_after(delay, consumer, since)
            assert (back.message, back.id) == (sent.message, sent.id)
            await consumer.settle([(back, Ack())])
        await place.is_empty(broker, lane.queue)

    async def test_a_message_rescheduled_as_a_copy_is_replaced_by_it(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        delay = place.harness.lease / 2
        sent = place.outgoing(lane)
        copy = Message(headers={**sent.message.headers, "bq-epoch": "1"}, body=b"\x00copy")
        await broker.publish([sent])
        async with broker.consume(lane, prefetch=2) as consumer:
            delivery = await place.receive_one(consumer)
            since = place.harness.clock.monotonic()
            verdict = Reschedule(delay=delay, message=copy)
            assert await consumer.settle([(delivery, verdict)]) == [True]
            back = await place.arrives_after(delay, consumer, since)
            assert (back.message, back.id) == (copy, sent.id)
            await place.nothing_arrives(consumer)
            await consumer.settle([(back, Ack())])
        await place.is_empty(broker, lane.queue)

    async def test_a_batch_of_all_verdicts_is_carried_out_one_by_one(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane, body) for body in (b"a", b"b", b"c", b"d")])
        async with broker.consume(lane, prefetch=4) as consumer:
            by_body = {d.message.body: d for d in await place.receive(consumer, 4)}
            copy = Message(headers=by_body[b"c"].message.headers, body=b"copy")
            verdicts: list[tuple[Delivery, Verdict]] = [
                (by_body[b"a"], Ack()),
                (by_body[b"b"], Release()),
                (by_body[b"a"], Ack()),
                (by_body[b"c"], Reschedule(delay=timedelta(0), message=copy)),
                (by_body[b"d"], Dead(message=by_body[b"d"].message)),
            ]
            assert await consumer.settle(verdicts) == [True, True, False, True, True]
            assert sorted(bodies(await place.receive(consumer, 2))) == [b"b", b"copy"]
            await place.nothing_arrives(consumer)
        assert [letter.body for letter in await letters(broker, lane.queue)] == [b"d"]

    @pytest.mark.parametrize("verdict", [Ack(), Release(), Reschedule(delay=timedelta(0))])
    async def test_settling_a_second_time_is_refused_and_changes_nothing(
        self, place: Place, broker: FullBroker, lane: Lane, verdict: Verdict
    ) -> None:
        sent = place.outgoing(lane)
        await broker.publish([sent])
        async with broker.consume(lane, prefetch=2) as consumer:
            delivery = await place.receive_one(consumer)
            assert await consumer.settle([(delivery, Ack())]) == [True]
            assert await consumer.settle([(delivery, verdict)]) == [False]
            assert await consumer.extend([delivery]) == [False]
            await place.nothing_arrives(consumer)

    async def test_leaving_hands_back_at_once_what_was_not_settled(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        sent = [place.outgoing(lane) for _ in range(5)]
        await broker.publish(sent)
        async with broker.consume(lane, prefetch=5) as consumer:
            held = await place.receive(consumer, 5)
            assert await consumer.settle([(held[0], Ack())]) == [True]
        handed_back_at = place.harness.clock.monotonic()
        async with broker.consume(lane, prefetch=5) as heir:
            again = await place.receive(heir, 4)
            assert {d.id for d in again} == {d.id for d in held[1:]}
        taken = timedelta(seconds=place.harness.clock.monotonic() - handed_back_at)
        assert taken < place.harness.lease

    async def test_settling_after_leaving_is_refused_and_does_not_hurt_the_next_owner(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane)])
        async with broker.consume(lane, prefetch=1) as consumer:
            delivery = await place.receive_one(consumer)
        async with broker.consume(lane, prefetch=1) as heir:
            again = await place.receive_one(heir)
            assert await consumer.settle([(delivery, Ack())]) == [False]
            assert await consumer.extend([delivery]) == [False]
            assert await heir.settle([(again, Ack())]) == [True]
        await place.is_empty(broker, lane.queue)

    async def test_a_consumer_never_holds_more_than_its_prefetch(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane) for _ in range(5)])
        async with broker.consume(lane, prefetch=3) as consumer:
            held = await place.receive(consumer, 3)
            await place.nothing_arrives(consumer)
            waiting = asyncio.ensure_future(consumer.receive(5))
            await consumer.settle([(held[0], Ack())])
            await in_time(waiting)
            assert len(waiting.result()) == 1
            async with broker.consume(lane, prefetch=3) as other:
                assert len(await place.receive(other, 1)) == 1

    async def test_no_more_is_received_than_was_asked_for(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        await broker.publish([place.outgoing(lane) for _ in range(5)])
        async with broker.consume(lane, prefetch=5) as consumer:
            async with asyncio.timeout(PATIENCE):
                assert 1 <= len(await consumer.receive(2)) <= 2

    async def test_a_waiting_consumer_wakes_for_a_message(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        publisher = await place.another()
        async with broker.consume(lane, prefetch=1) as consumer:
            await place.nothing_arrives(consumer)
            waiting = asyncio.ensure_future(place.receive_one(consumer))
            await place.harness.pass_time(place.harness.tolerance)
            sent = place.outgoing(lane)
            await publisher.publish([sent])
            assert (await waiting).id == sent.id

    async def test_a_receive_cancelled_as_a_message_comes_strands_nothing(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        async with (
            broker.consume(lane, prefetch=20) as impatient,
            broker.consume(lane, prefetch=20) as patient,
        ):
            for turns in range(20):
                sent = place.outgoing(lane)
                cancelled = asyncio.ensure_future(impatient.receive(1))
                await asyncio.sleep(0)
                waiting = asyncio.ensure_future(place.receive_one(patient))
                await asyncio.sleep(0)
                publishing = asyncio.ensure_future(broker.publish([sent]))
                for _ in range(turns % 5):  # so that the two meet at every possible point
                    await asyncio.sleep(0)
                await cancel(cancelled)
                await publishing
                if not cancelled.cancelled():
                    await impatient.settle([(d, Release()) for d in cancelled.result()])
                delivery = await waiting
                assert delivery.id == sent.id
                assert await patient.settle([(delivery, Ack())]) == [True]

    async def test_closing_the_broker_ends_a_waiting_receive(
        self, broker: FullBroker, lane: Lane
    ) -> None:
        async with broker.consume(lane, prefetch=1) as consumer:
            waiting = asyncio.ensure_future(consumer.receive(1))
            await asyncio.sleep(0)
            await in_time(broker.close())
            with pytest.raises(ConnectionLostError):
                await in_time(waiting)
