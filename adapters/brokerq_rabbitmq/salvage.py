"""Hands out what RabbitMQ itself has made dead letters of, until it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from brokerq.broker import Consumer, Delivery, Lane, Release, Reschedule, Verdict
from brokerq_rabbitmq.consumer import RabbitConsumer
from brokerq_rabbitmq.wire import read_level


class SalvageConsumer(Consumer):
    """Reads them where they are: apart from the judged ones, which are put among those."""

    def __init__(self, crashed: RabbitConsumer, queue: str) -> None:
        self._crashed = crashed
        self._queue = queue

    async def receive(self, limit: int) -> Sequence[Delivery]:
        deliveries = await self._crashed.receive(limit)
        return [replace(each, lane=self._lane(each)) for each in deliveries]

    def _lane(self, delivery: Delivery) -> Lane:
        received = self._crashed.received(delivery)
        level = None if received is None else read_level(received.headers)
        return Lane(queue=self._queue) if level is None else Lane(queue=self._queue, level=level)

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> Sequence[bool]:
        answers: dict[int, bool] = {}
        judged: dict[int, tuple[Delivery, Verdict]] = {}
        for position, (delivery, verdict) in enumerate(verdicts):
            if isinstance(verdict, Release | Reschedule):
                delay = verdict.delay.total_seconds()
                answers[position] = self._crashed.return_later(delivery, delay)
            else:
                judged[position] = delivery, verdict
        done = await self._crashed.settle(list(judged.values()))
        answers |= dict(zip(judged, done, strict=True))
        return [answers[position] for position in range(len(verdicts))]

    async def extend(self, deliveries: Sequence[Delivery]) -> Sequence[bool]:
        return await self._crashed.extend(deliveries)
