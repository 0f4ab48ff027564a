"""What only the memory broker promises: one place for several threads, and time by the clock."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from brokerq_memory import MemoryBroker, VirtualClock, adapter
from brokerq_memory.state import MemoryState

from brokerq.broker import Ack, Broker, Consumer, Lane, Outgoing, QueueSpec, Release
from brokerq.clock import Clock, SystemClock
from brokerq.duration import ZERO
from brokerq.errors import ConfigurationError
from brokerq.message import Message
from brokerq.url import Url

LANE = Lane(queue="jobs")
SPEC = QueueSpec(name="jobs", lease=timedelta(seconds=30))


def outgoing(name: str, delay: timedelta = ZERO, order: str | None = None) -> Outgoing:
    message = Message(headers={"bq-id": name}, body=name.encode())
    return Outgoing(lane=LANE, message=message, id=name, delay=delay, order=order)


@asynccontextmanager
async def opened(
    state: MemoryState, *specs: QueueSpec, prefix: str = "shop"
) -> AsyncGenerator[MemoryBroker]:
    broker = MemoryBroker(prefix=prefix, state=state)
    await broker.open()
    await broker.declare(specs or [SPEC])
    yield broker
    await broker.close()


async def receive(consumer: Consumer, limit: int = 1) -> list[str | None]:
    async with asyncio.timeout(30):
        return [delivery.id for delivery in await consumer.receive(limit)]


def broker_at(url: str, clock: Clock) -> Broker:
    broker = adapter(Url.parse(url), prefix="shop", clock=clock).broker
    assert broker is not None
    return broker


async def test_a_named_url_is_one_place_and_a_nameless_one_is_private() -> None:
    clock = SystemClock()
    brokers = [broker_at(url, clock) for url in ("memory://m1", "memory://m1", "memory://m2")]
    brokers += [broker_at("memory://", clock), broker_at("memory://", clock)]
    for broker in brokers:
        await broker.open()
        await broker.declare([SPEC])
    await brokers[0].publish([outgoing("a")])
    found: list[int] = []
    for broker in brokers:
        assert isinstance(broker, MemoryBroker)
        found.append((await broker.stats(["jobs"]))[0].ready)
        await broker.close()
    assert found == [1, 1, 0, 0, 0]


def test_a_named_place_has_one_clock() -> None:
    clock = VirtualClock()
    broker_at("memory://m3", clock)
    broker_at("memory://m3", clock)
    with pytest.raises(ConfigurationError, match="clock"):
        broker_at("memory://m3", SystemClock())


@pytest.mark.parametrize("url", ["memory://name/path", "memory://?lease=3"])
def test_a_url_with_more_than_a_name_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        broker_at(url, SystemClock())


def test_a_virtual_clock_cannot_go_back() -> None:
    clock = VirtualClock()
    before = clock.now()
    clock.advance(timedelta(hours=1))
    assert clock.now() - before == timedelta(hours=1)
    with pytest.raises(ValueError, match="back"):
        clock.advance(timedelta(seconds=-1))


async def test_what_comes_back_goes_to_the_front_in_its_old_order() -> None:
    async with opened(MemoryState(VirtualClock())) as broker:
        await broker.publish([outgoing(name) for name in "abcd"])
        async with broker.consume(LANE, prefetch=4) as consumer:
            held = await consumer.receive(3)
            await consumer.settle([(d, Release()) for d in held[:2]])
        async with broker.consume(LANE, prefetch=4) as consumer:
            assert await receive(consumer, 4) == ["c", "a", "b", "d"]


async def test_purging_frees_the_ordering_keys_of_what_it_removes() -> None:
    ordered = QueueSpec(name="jobs", ordered=True)
    async with opened(MemoryState(VirtualClock()), ordered) as broker:
        await broker.publish([outgoing(f"k{n}", order="k") for n in range(3)])
        await broker.publish([outgoing(f"m{n}", order="m") for n in range(3)])
        async with broker.consume(LANE, prefetch=5) as consumer:
            (held,) = await consumer.receive(1)
            assert await broker.purge("jobs") == 5
            await broker.publish([outgoing("k3", order="k"), outgoing("m3", order="m")])
            assert await receive(consumer, 5) == ["m3"]
            assert await consumer.settle([(held, Ack())]) == [True]
            assert await receive(consumer, 5) == ["k3"]


async def test_the_alarm_of_a_broker_that_closes_is_set_again_by_who_still_waits() -> None:
    state = MemoryState(SystemClock())
    async with opened(state) as waiting, waiting.consume(LANE, prefetch=1) as consumer:
        receiving = asyncio.ensure_future(receive(consumer))
        await asyncio.sleep(0)
        async with opened(state) as publisher:
            await publisher.publish([outgoing("a", timedelta(seconds=0.1))])
        assert await receiving == ["a"]


async def test_an_alarm_on_a_loop_that_is_gone_is_not_relied_on() -> None:
    """Its app went without closing; the next event still reaches whoever waits elsewhere."""
    state = MemoryState(SystemClock())

    async def publish_and_vanish() -> None:
        broker = MemoryBroker(prefix="shop", state=state)
        await broker.open()
        await broker.publish([outgoing("a", timedelta(seconds=0.1))])

    async with opened(state) as broker, broker.consume(LANE, prefetch=2) as consumer:
        receiving = asyncio.ensure_future(receive(consumer))
        await asyncio.sleep(0)
        await asyncio.to_thread(asyncio.run, publish_and_vanish())
        await broker.publish([outgoing("b", timedelta(hours=1))])
        assert await receiving == ["a"]


class Crowd:
    """Workers and publishers on event loops of their own."""

    def __init__(self, total: int) -> None:
        self.state = MemoryState(SystemClock())
        self.total = total
        self.got = Counter[str | None]()
        self.done = threading.Event()

    async def consume(self, broker: MemoryBroker) -> None:
        async with broker.consume(LANE, prefetch=20) as consumer:
            while not self.done.is_set():
                try:
                    async with asyncio.timeout(0.01):
                        deliveries = await consumer.receive(20)
                except TimeoutError:
                    continue
                results = await consumer.settle([(d, Ack()) for d in deliveries])
                with self.state.lock:
                    self.got.update(d.id for d, ok in zip(deliveries, results, strict=True) if ok)
                    if self.got.total() >= self.total:
                        self.done.set()

    async def work(self) -> None:
        async with (
            opened(self.state) as broker,
            asyncio.timeout(20),
            asyncio.TaskGroup() as group,
        ):
            for _ in range(3):
                group.create_task(self.consume(broker))

    async def publish(self, names: Sequence[str]) -> None:
        async with opened(self.state) as broker:
            for name in names:
                await broker.publish([outgoing(name)])
                await asyncio.sleep(0)


def test_loops_in_several_threads_share_a_place_and_lose_nothing() -> None:
    names = [f"job-{n}" for n in range(4_000)]
    crowd = Crowd(len(names))
    mains = [crowd.work(), crowd.work(), crowd.publish(names[::2]), crowd.publish(names[1::2])]
    threads = [threading.Thread(target=asyncio.run, args=(main,)) for main in mains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert crowd.got == Counter(names)
