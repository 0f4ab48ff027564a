"""Puts faults into broker and store of this process: the calls of the two seams are watched.

The adapters stay what they are (`isinstance` and all); only their methods are replaced on the one
object. Production code knows nothing of it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from brokerq import session
from brokerq.broker import (
    Ack,
    Broker,
    Consumer,
    Dead,
    Delivery,
    Lane,
    Outgoing,
    Release,
    Reschedule,
    Verdict,
)
from brokerq.connect import Backends, open_backends
from brokerq.duration import ZERO
from brokerq.errors import StoreUnavailableError
from brokerq.record import ReserveAnswer, Reserved
from brokerq.store import NewJob
from tests.failure.spec import Fault, Outage

STORE_CALLS = (
    "claim",
    "renew",
    "finish",
    "reserve",
    "enqueue",
    "free",
    "get",
    "begin_redrive",
    "end_redrive",
    "publish_recorded",
    "schedule",
    "take",
    "sent",
    "put_back",
)
BROKER_CALLS = ("publish", "discard")


class Faults:
    """Counts how often each point is reached and does there what it was told; thread-safe."""

    def __init__(self, fault: Fault | None, outage: Outage | None, folder: Path) -> None:
        self._fault = fault
        self._folder = folder
        self._outage = outage
        self._reached: Counter[str] = Counter()
        self._failing = 0
        self._away_since: float | None = None
        self._guard = threading.Lock()

    def reach(self, point: str) -> None:
        """Note that the point is reached; the process may end, or stop, here."""
        with self._guard:
            self._reached[point] += 1
            due = self._is_due(point, self._reached[point])
        if due and self._fault is not None:
            if self._fault.signal == signal.SIGSTOP:
                _wait_for_locks(self._folder)
            # To this thread, which then does not take one step more.
            signal.pthread_kill(threading.get_ident(), self._fault.signal)

    def comes_next(self, point: str) -> bool:
        """Tell whether the process ends when the point is reached next."""
        return self._is_due(point, self._reached[point] + 1)

    def _is_due(self, point: str, count: int) -> bool:
        fault = self._fault
        return fault is not None and fault.point == point and fault.nth == count

    def check_outage(self, call: str) -> None:
        """Raise while the store, or the broker, is away for that call."""
        outage = self._outage
        if outage is None or call not in outage.calls:
            return
        self._failing += 1
        if self._away_since is None and self._failing >= outage.nth:
            self._away_since = time.monotonic()
        if self._away_since is None:
            return
        if time.monotonic() < self._away_since + outage.seconds:
            raise StoreUnavailableError(f"the test keeps {call} away")


def _wait_for_locks(folder: Path) -> None:
    """Wait until no SQLite file is being written to.

    Who stands still within a transaction keeps all others waiting, which is another failure than
    the one that is wanted here.
    """
    for lock in folder.glob("*.db-lock"):
        for _ in range(5):
            file = os.open(lock, os.O_RDWR)
            fcntl.flock(file, fcntl.LOCK_EX)
            os.close(file)
            time.sleep(0.002)  # whoever waits for the lock has it now, and gives it back


def install(faults: Faults, *, stepwise: bool, copies: int = 1) -> None:
    """Have every app of this process open watched backends.

    Args:
        faults: What happens at the points.
        stepwise: Settle as a broker does that cannot confirm a follow-up and remove the original at
            once: one after the other, and copies only.
        copies: How often the broker takes each message that is published, as when a publisher tries
            again because it heard nothing.
    """

    def opened(*args: Any, **kwargs: Any) -> Backends:
        backends = open_backends(*args, **kwargs)
        if copies > 1:
            _multiply(backends, copies - 1)
        _watch(backends.store, STORE_CALLS, faults)
        _watch(backends.broker, BROKER_CALLS, faults)
        _watch_consumers(backends.broker, faults, stepwise=stepwise)
        return backends

    target: Any = session
    target.open_backends = opened


def _multiply(backends: Backends, more: int) -> None:
    broker, store = cast("Any", backends.broker), cast("Any", backends.store)
    publish, publish_recorded = backends.broker.publish, store.publish_recorded

    async def published(messages: Sequence[Outgoing]) -> None:
        for _ in range(more + 1):
            await publish(messages)

    async def recorded(jobs: Sequence[tuple[NewJob, Outgoing]]) -> Sequence[ReserveAnswer]:
        answers: Sequence[ReserveAnswer] = await publish_recorded(jobs)
        for _ in range(more):
            pairs = zip(jobs, answers, strict=True)
            await publish([job[1] for job, answer in pairs if isinstance(answer, Reserved)])
        return answers

    broker.publish, store.publish_recorded = published, recorded


def _watch(target: object, calls: Sequence[str], faults: Faults) -> None:
    for call in calls:
        if hasattr(target, call):
            setattr(target, call, _watched(getattr(target, call), call, faults))


def _watched(
    method: Callable[..., Awaitable[Any]], call: str, faults: Faults
) -> Callable[..., Awaitable[Any]]:
    async def watched(*args: Any, **kwargs: Any) -> Any:
        faults.reach(f"before {call}")
        faults.check_outage(call)
        answer = await method(*args, **kwargs)
        faults.reach(f"after {call}")
        return answer

    return watched


def _watch_consumers(broker: Broker, faults: Faults, *, stepwise: bool) -> None:
    consume = broker.consume

    @asynccontextmanager
    async def watched(lane: Lane, *, prefetch: int) -> AsyncGenerator[Consumer]:
        async with consume(lane, prefetch=prefetch) as consumer:
            if stepwise:
                _Stepwise(broker, consumer, faults).install()
            _watch(consumer, ("receive", "settle", "extend"), faults)
            yield consumer

    target = cast("Any", broker)
    target.consume = cast("Callable[..., AbstractAsyncContextManager[Consumer]]", watched)


class _Stepwise:
    """Makes a consumer settle in steps, with the point `after follow_up` between them."""

    def __init__(self, broker: Broker, consumer: Consumer, faults: Faults) -> None:
        self._broker = broker
        self._consumer = consumer
        self._receive = consumer.receive
        self._settle = consumer.settle
        self._faults = faults

    def install(self) -> None:
        target = cast("Any", self._consumer)
        target.receive = self.receive
        target.settle = self.settle

    async def receive(self, limit: int) -> list[Delivery]:
        return [replace(each, in_place=ZERO) for each in await self._receive(limit)]

    async def settle(self, verdicts: Sequence[tuple[Delivery, Verdict]]) -> list[bool]:
        return [await self._settle_one(delivery, verdict) for delivery, verdict in verdicts]

    async def _settle_one(self, delivery: Delivery, verdict: Verdict) -> bool:
        match verdict:
            case Reschedule(delay=delay, message=message):
                copy = delivery.message if message is None else message
            case Release(delay=delay) if delay:
                copy = delivery.message
            case Dead() if self._faults.comes_next("after follow_up"):
                # The letter is confirmed and the original still there: as if it had come back.
                await self._publish(delivery, delivery.message, ZERO)
                await self._settle([(delivery, verdict)])
                self._faults.reach("after follow_up")
                raise AssertionError("unreachable: the process was to be killed")
            case _:
                return (await self._settle([(delivery, verdict)]))[0]
        await self._publish(delivery, copy, delay)
        self._faults.reach("after follow_up")
        return (await self._settle([(delivery, Ack())]))[0]

    async def _publish(self, delivery: Delivery, message: Any, delay: Any) -> None:
        job_id = message.headers["bq-id"]
        outgoing = Outgoing(lane=delivery.lane, message=message, id=job_id, delay=delay)
        await self._broker.publish([outgoing])
