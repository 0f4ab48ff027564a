"""The raw clients of RabbitMQ that brokerq is measured beside, each in a process of its own.

`python -m tests.bench.rabbitmq_floors NAME URL ...`. All durable: a quorum queue, persistent
messages, every publish confirmed, every job acknowledged after it was run. They do nothing else.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import aiormq
from aiormq.abc import ArgumentsType, DeliveredMessage
from aiormq.channel import Channel
from uuid_utils import uuid7

from tests.bench.meter import Figures, Meter

QUEUE = "floor"
WINDOW = 200
QUORUM: ArgumentsType = {"x-queue-type": "quorum"}
YOUNG = 1.0
"""Seconds that a new quorum queue is left alone."""


async def no_work(_: int) -> None:
    """Do nothing, as most of the cost is then the client's."""


async def short_work(number: int) -> None:
    """Wait up to 20 ms."""
    await asyncio.sleep(random.Random(number).uniform(0, 0.02))


WORK: dict[str, Callable[[int], Awaitable[None]]] = {"none": no_work, "short": short_work}


@asynccontextmanager
async def _channel(url: str) -> AsyncGenerator[Channel]:
    connection = await aiormq.connect(url)
    # Without a limit of its buffer, which would cost a change of task for each ten frames.
    channel = await connection.channel(frame_buffer_size=0)
    assert isinstance(channel, Channel)
    await channel.queue_declare(QUEUE, durable=True, arguments=QUORUM)
    await asyncio.sleep(YOUNG)
    try:
        yield channel
    finally:
        await channel.queue_delete(QUEUE)
        await connection.close()


async def _publish(channel: Channel, number: int, *, wait: bool = True) -> None:
    properties = aiormq.spec.Basic.Properties(
        delivery_mode=2, message_id=str(uuid7()), headers={"job": "noop"}
    )
    body = json.dumps({"number": number}).encode()
    await channel.basic_publish(body, routing_key=QUEUE, properties=properties, wait=wait)


async def _publish_in_window(channel: Channel, count: int) -> None:
    numbers = iter(range(count))

    async def publish() -> None:
        for number in numbers:
            await _publish(channel, number, wait=False)

    await asyncio.gather(*(publish() for _ in range(WINDOW)))


async def publish_one(url: str, count: int) -> Figures:
    """aiormq: publish one at a time, each confirmed before the next."""
    async with _channel(url) as channel:
        meter = Meter()
        for number in range(count):
            await _publish(channel, number)
        return meter.figures(count)


async def publish_many(url: str, count: int) -> Figures:
    """aiormq: publish with a window of open confirms."""
    async with _channel(url) as channel:
        meter = Meter()
        await _publish_in_window(channel, count)
        return meter.figures(count)


class Acks:
    """Acknowledges what is done from the first message on, many at once."""

    def __init__(self, channel: Channel, every: int, last: int) -> None:
        self._channel = channel
        self._every = every
        self._last = last
        self._done: set[int] = set()
        self._through = 0
        self._sent = 0
        self.complete = asyncio.Event()

    async def add(self, tag: int) -> None:
        """Note that a message is done."""
        self._done.add(tag)
        while self._through + 1 in self._done:
            self._through += 1
            self._done.remove(self._through)
        if self._through - self._sent >= self._every or self._through == self._last:
            self._sent = self._through
            await self._channel.basic_ack(self._sent, multiple=True, wait=False)
            if self._sent == self._last:
                self.complete.set()


async def drain(url: str, count: int, concurrency: int, work: str = "none") -> Figures:
    """aiormq, tuned: prefetch deep and apart from the concurrency, acknowledgements cumulative."""
    prefetch = max(WINDOW, 5 * concurrency)
    waiting: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
    run = WORK[work]

    async def receive(message: DeliveredMessage) -> None:
        assert message.delivery_tag is not None
        waiting.put_nowait((message.delivery_tag, message.body))

    async with _channel(url) as channel:
        acks = Acks(channel, prefetch // 4, count)

        async def slot() -> None:
            while True:
                tag, body = await waiting.get()
                await run(json.loads(body)["number"])
                await acks.add(tag)

        await _publish_in_window(channel, count)
        meter = Meter()
        slots = [asyncio.create_task(slot()) for _ in range(concurrency)]
        await channel.basic_qos(prefetch_count=prefetch)
        await channel.basic_consume(QUEUE, receive, consumer_tag=QUEUE)
        await acks.complete.wait()
        await channel.basic_cancel(QUEUE)  # answered in order: the acknowledgements have been read
        figures = meter.figures(count)
        for each in slots:
            each.cancel()
        return figures


async def drain_plainly(url: str, count: int, concurrency: int, work: str = "none") -> Figures:
    """aio-pika, as its documentation has it: prefetch is concurrency, one acknowledgement each."""
    run = WORK[work]
    left = count
    complete = asyncio.Event()

    async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        nonlocal left
        async with message.process():
            await run(json.loads(message.body)["number"])
        left -= 1
        if not left:
            complete.set()

    async with _channel(url) as filling:
        await _publish_in_window(filling, count)
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=concurrency)
            queue = await channel.declare_queue(QUEUE, durable=True, arguments=QUORUM)
            meter = Meter()
            await queue.consume(handle, consumer_tag=QUEUE)
            await complete.wait()
            await queue.cancel(QUEUE)
            return meter.figures(count)


async def round_trip(url: str, count: int) -> Figures:
    """aiormq: from before a confirmed publish to the start of its handler, some ms apart."""
    seen: list[float] = []
    complete = asyncio.Event()

    async def receive(message: DeliveredMessage) -> None:
        seen.append(time.monotonic() - json.loads(message.body)["number"])
        assert message.delivery_tag is not None
        await message.channel.basic_ack(message.delivery_tag, wait=False)
        if len(seen) == count:
            complete.set()

    async with _channel(url) as channel:
        publishing = await aiormq.connect(url)
        publisher = await publishing.channel()
        await channel.basic_qos(prefetch_count=10)
        await channel.basic_consume(QUEUE, receive, consumer_tag=QUEUE)
        for _ in range(count):
            body = json.dumps({"number": time.monotonic()}).encode()
            persistent = aiormq.spec.Basic.Properties(delivery_mode=2)
            await publisher.basic_publish(body, routing_key=QUEUE, properties=persistent)
            await asyncio.sleep(0.01)
        await complete.wait()
        await channel.basic_cancel(QUEUE)
        await publishing.close()
    seen.sort()
    return {"p50_ms": seen[count // 2] * 1000, "p99_ms": seen[int(count * 0.99)] * 1000}


FLOORS: dict[str, Callable[..., Coroutine[Any, Any, Figures]]] = {
    floor.__name__: floor for floor in (publish_one, publish_many, drain, drain_plainly, round_trip)
}

if __name__ == "__main__":
    name, url, count, *more = sys.argv[1:]
    arguments = [int(each) if each.isdecimal() else each for each in more]
    figures = asyncio.run(FLOORS[name](url, int(count), *arguments))
    print(json.dumps(figures), flush=True)
