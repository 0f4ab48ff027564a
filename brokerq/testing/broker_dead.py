"""Cases: dead letters are kept, shown and discarded."""

from __future__ import annotations

from brokerq.broker import Dead, Lane
from brokerq.message import Message
from brokerq.testing.broker_cases import BrokerCases, Place, letters
from brokerq.testing.harness import FullBroker


class DeadCases(BrokerCases):
    """Dead letters."""

    async def test_a_dead_letter_is_kept_byte_for_byte_and_its_original_is_gone(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        sent = place.outgoing(lane, bytes(range(256)))
        letter = Message(
            headers={
                **sent.message.headers,
                "bq-dead-reason": "exhausted",
                "bq-dead-traceback": "Zeile 1\nZeile 2 äöü 🦀\t" * 300,
            },
            body=sent.message.body,
        )
        await broker.publish([sent])
        async with broker.consume(lane, prefetch=1) as consumer:
            delivery = await place.receive_one(consumer)
            assert await consumer.settle([(delivery, Dead(message=letter))]) == [True]
            await place.nothing_arrives(consumer, 2 * place.harness.lease)
        await place.is_empty(broker, lane.queue)
        assert await letters(await place.another(), lane.queue) == [letter]

    async def test_an_undecodable_message_can_be_a_dead_letter(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        letter = Message(headers={"bq-epoch": "not a number"}, body=b"\xff\x00")
        await _bury(place, broker, lane, [letter])
        assert await letters(broker, lane.queue) == [letter]
        assert await broker.discard(lane.queue, [("nobody", 0)]) == 0
        assert await letters(broker, lane.queue) == [letter]

    async def test_browsing_shows_all_letters_oldest_first_and_takes_none(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        buried = [_letter(f"job-{n}", epoch=0) for n in range(10)]
        await _bury(place, broker, lane, buried)
        for _ in range(2):
            assert await letters(broker, lane.queue) == buried
        assert await letters(await place.another(), lane.queue) == buried
        assert (await broker.stats([lane.queue]))[0].dead == 10

    async def test_browsing_can_stop_in_the_middle(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        buried = [_letter(f"job-{n}", epoch=0) for n in range(5)]
        await _bury(place, broker, lane, buried)
        async with broker.browse(lane.queue) as found:
            assert await anext(aiter(found)) == buried[0]
        assert await letters(broker, lane.queue) == buried

    async def test_only_the_letters_named_by_id_and_epoch_are_discarded(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        first, second, third = (_letter("a", 0), _letter("a", 1), _letter("b", 0))
        await _bury(place, broker, lane, [first, second, third])
        assert await broker.discard(lane.queue, [("a", 1), ("b", 7), ("c", 0)]) == 1
        assert await letters(broker, lane.queue) == [first, third]
        assert await broker.discard(lane.queue, [("a", 1)]) == 0
        assert await broker.discard(lane.queue, [("a", 0), ("b", 0)]) == 2
        assert await letters(broker, lane.queue) == []
        assert await broker.discard(lane.queue, []) == 0

    async def test_each_queue_and_app_has_dead_letters_of_its_own(
        self, place: Place, broker: FullBroker, lane: Lane
    ) -> None:
        other_app = await place.another(prefix=f"{place.prefix}x")
        await broker.declare([place.spec("mail")])
        await other_app.declare([place.spec(lane.queue)])
        await _bury(place, broker, lane, [_letter("a", 0)])
        assert await letters(broker, "mail") == []
        assert await letters(other_app, lane.queue) == []
        assert await other_app.discard(lane.queue, [("a", 0)]) == 0
        assert len(await letters(broker, lane.queue)) == 1


def _letter(job_id: str, epoch: int) -> Message:
    headers = {"bq-v": "1", "bq-id": job_id, "bq-job": "job", "bq-dead-reason": "exhausted"}
    if epoch:
        headers["bq-epoch"] = str(epoch)
    return Message(headers=headers, body=f"{job_id}/{epoch}".encode())


async def _bury(place: Place, broker: FullBroker, lane: Lane, dead: list[Message]) -> None:
    async with broker.consume(lane, prefetch=1) as consumer:
        for letter in dead:
            await broker.publish([place.outgoing(lane)])
            delivery = await place.receive_one(consumer)
            assert await consumer.settle([(delivery, Dead(message=letter))]) == [True]
