"""Cases: with an ordering key, one at a time and in order; or a refusal."""

from __future__ import annotations

from datetime import timedelta

import pytest

from brokerq.broker import (
    Ack,
    Consumer,
    Dead,
    Delivery,
    Lane,
    Ordering,
    Release,
    Reschedule,
    Verdict,
)
from brokerq.errors import CapabilityError
from brokerq.message import Message
from brokerq.testing.broker_cases import BrokerCases, Place, bodies
from brokerq.testing.harness import FullBroker

_LANE = Lane(queue="ordered")


class OrderCases(BrokerCases):
    """Ordering keys."""

    async def test_an_ordering_key_on_a_queue_without_order_is_refused_before_anything_is_sent(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        with pytest.raises(CapabilityError):
            await broker.publish([place.outgoing(lane), place.outgoing(lane, order="k")])
        await place.is_empty(broker, lane.queue)

    async def test_messages_with_one_key_are_handed_out_one_at_a_time_in_order(
        self, place: Place, broker: FullBroker
    ) -> None:
        if await _refuses_order(place, broker):
            return
        keys = ["a", "b", "a", "c", "b", "a"]
        batch = [place.outgoing(_LANE, f"{k}{n}".encode(), order=k) for n, k in enumerate(keys)]
        await broker.publish(batch)
        await broker.publish([place.outgoing(_LANE, b"a6", order="a")])
        seen: dict[bytes, list[bytes]] = {}
        async with broker.consume(_LANE, prefetch=10) as consumer:
            for together in (3, 2, 1, 1):
                held = await place.receive(consumer, together)
                assert len({body[:1] for body in bodies(held)}) == together
                await place.nothing_arrives(consumer)
                for body in bodies(held):
                    seen.setdefault(body[:1], []).append(body)
                assert all(await consumer.settle([(d, Ack()) for d in held]))
        assert seen == {b"a": [b"a0", b"a2", b"a5", b"a6"], b"b": [b"b1", b"b4"], b"c": [b"c3"]}
        await place.is_empty(broker, _LANE.queue)

    async def test_two_consumers_never_hold_one_key_at_the_same_time(
        self, place: Place, broker: FullBroker
    ) -> None:
        if await _refuses_order(place, broker):
            return
        await broker.publish([place.outgoing(_LANE, b"%d" % n, order="k") for n in range(2)])
        other = await place.another()
        async with (
            broker.consume(_LANE, prefetch=5) as first,
            other.consume(_LANE, prefetch=5) as second,
        ):
            held = await place.receive_one(first)
            assert held.message.body == b"0"
            await place.nothing_arrives(second)
            await first.settle([(held, Ack())])
            assert (await place.receive_one(second)).message.body == b"1"

    async def test_messages_without_a_key_do_not_wait_for_each_other(
        self, place: Place, broker: FullBroker
    ) -> None:
        if await _refuses_order(place, broker):
            return
        await broker.publish([place.outgoing(_LANE) for _ in range(3)])
        async with broker.consume(_LANE, prefetch=3) as consumer:
            assert len(await place.receive(consumer, 3)) == 3

    @pytest.mark.parametrize("as_copy", [False, True], ids=["in place", "as a copy"])
    async def test_a_rescheduled_message_blocks_its_key_until_it_is_done(
        self, place: Place, broker: FullBroker, *, as_copy: bool
    ) -> None:
        if await _refuses_order(place, broker):
            return
        delay = place.harness.lease / 2
        async with broker.consume(_LANE, prefetch=5) as consumer:
            first = await _first_of_two(place, broker, consumer)
            if not as_copy and first.in_place < delay:
                return
            headers = {**first.message.headers, "bq-epoch": "1"}
            copy = Message(headers=headers, body=b"0") if as_copy else None
            if as_copy and not broker.capabilities.delayed_ordering:  # then the core asks for none
                verdict = Reschedule(delay=timedelta(0), message=copy)
                assert await consumer.settle([(first, verdict)]) == [False]
                assert (await place.receive_one(consumer)).message == first.message
                return
            since = place.harness.clock.monotonic()
            assert await consumer.settle([(first, Reschedule(delay=delay, message=copy))]) == [True]
            again = await place.arrives_after(delay, consumer, since)
            assert again.message == (copy or first.message)
            await place.nothing_arrives(consumer)
            await consumer.settle([(again, Ack())])
            assert (await place.receive_one(consumer)).message.body == b"1"

    @pytest.mark.parametrize("verdict", [Release(), Reschedule(delay=timedelta(0))])
    async def test_what_comes_back_at_once_keeps_its_place(
        self, place: Place, broker: FullBroker, verdict: Verdict
    ) -> None:
        if await _refuses_order(place, broker):
            return
        async with broker.consume(_LANE, prefetch=5) as consumer:
            first = await _first_of_two(place, broker, consumer)
            assert await consumer.settle([(first, verdict)]) == [True]
            assert bodies(await place.receive(consumer)) == [b"0"]
            await place.nothing_arrives(consumer)

    async def test_a_lost_lease_and_a_hand_back_keep_the_order(
        self, place: Place, broker: FullBroker
    ) -> None:
        if await _refuses_order(place, broker):
            return
        other = await place.another()
        async with other.consume(_LANE, prefetch=5) as heir:
            async with broker.consume(_LANE, prefetch=5) as consumer:
                await _first_of_two(place, broker, consumer)
                await place.harness.pass_time(place.harness.lease + place.harness.tolerance)
                again = await place.receive_one(heir)
                assert again.message.body == b"0"
            await place.nothing_arrives(heir)
            await heir.settle([(again, Ack())])
            assert (await place.receive_one(heir)).message.body == b"1"

    async def test_death_lets_the_next_with_its_key_go(
        self, place: Place, broker: FullBroker
    ) -> None:
        if await _refuses_order(place, broker):
            return
        async with broker.consume(_LANE, prefetch=5) as consumer:
            first = await _first_of_two(place, broker, consumer)
            assert await consumer.settle([(first, Dead(message=first.message))]) == [True]
            assert (await place.receive_one(consumer)).message.body == b"1"

    async def test_a_delayed_message_with_a_key_blocks_it_or_is_refused(
        self, place: Place, broker: FullBroker
    ) -> None:
        if await _refuses_order(place, broker):
            return
        delay = place.harness.lease / 2
        delayed = place.outgoing(_LANE, b"0", delay=delay, order="k")
        since = place.harness.clock.monotonic()
        if not broker.capabilities.delayed_ordering:
            with pytest.raises(CapabilityError):
                await broker.publish([delayed])
            return
        await broker.publish([delayed, place.outgoing(_LANE, b"1", order="k")])
        other_key = place.outgoing(_LANE, b"2", order="other")
        await broker.publish([other_key])
        async with broker.consume(_LANE, prefetch=5) as consumer:
            assert (await place.receive_one(consumer)).id == other_key.id
            first = await place.arrives_after(delay, consumer, since)
            assert first.message.body == b"0"
            await place.nothing_arrives(consumer)
            await consumer.settle([(first, Ack())])
            assert (await place.receive_one(consumer)).message.body == b"1"


async def _refuses_order(place: Place, broker: FullBroker) -> bool:
    """Declare an ordered queue; tell whether the broker cannot, and assert that it then says so."""
    if broker.capabilities.ordering is Ordering.NONE:
        with pytest.raises(CapabilityError):
            await broker.declare([place.spec(_LANE.queue, ordered=True)])
        return True
    await broker.declare([place.spec(_LANE.queue, ordered=True)])
    return False


async def _first_of_two(place: Place, broker: FullBroker, consumer: Consumer) -> Delivery:
    await broker.publish([place.outgoing(_LANE, b"%d" % n, order="k") for n in range(2)])
    first = await place.receive_one(consumer)
    assert first.message.body == b"0"
    return first
