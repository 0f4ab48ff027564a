"""Somebody sets the wall clock while jobs run and wait.

What holds: leases are judged by a clock that nobody can set, so none lapses and none lasts longer.
Due times are wall-clock instants, by their meaning ("at 14:00"), so they follow the clock: set
forward, a delayed job or a retry is due as soon as the clock says so; set back, it waits until the
clock says so again. Measured by the clock that the worker reads, nothing runs early.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from brokerq import BrokerQ, JobHandle, State
from brokerq.clock import SystemClock
from tests.failure.jobs import Scribe, build_app
from tests.failure.ledger import Ledger, of, read
from tests.failure.spec import Place

HOUR = timedelta(hours=1)


class SetClock(SystemClock):
    """A clock whose wall time somebody sets."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


class World:
    """Two workers' apps in one process, with one clock."""

    def __init__(self, folder: Path, clock: SetClock) -> None:
        self.clock = clock
        self.path = folder / "ledger.jsonl"
        place = Place(url=f"sqlite:///{folder}/jobs.db", ledger=str(self.path), lease=1.0)
        self.ledger = Ledger(self.path)
        self.apps: list[BrokerQ] = [
            build_app(place, Scribe(ledger=self.ledger), clock=clock) for _ in range(2)
        ]
        self.client = self.apps[0]
        self.stop = asyncio.Event()

    async def begun(self, job_id: str) -> None:
        deadline = time.monotonic() + 10
        while not of(read(self.path), "begin", job_id):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    async def until_tried(self, handle: JobHandle[Any], attempts: int) -> None:
        deadline = time.monotonic() + 10
        while (await handle.status()).attempts < attempts:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Yield two working workers."""
    world = World(tmp_path, SetClock())
    async with world.apps[0], world.apps[1]:
        workers = [asyncio.create_task(app.run_worker(stop=world.stop)) for app in world.apps]
        yield world
        world.stop.set()
        await asyncio.gather(*workers)
    world.ledger.close()


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
async def test_no_lease_lapses_when_the_clock_is_set(world: World, jump: timedelta) -> None:
    handle = await world.client.publish("slow", {"n": 1, "seconds": 1.5})
    await world.begun(handle.id)
    world.clock.ahead = jump
    view = await handle.wait(timeout="10s")
    assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 0)
    assert len(of(read(world.path), "begin", handle.id)) == 1


async def test_what_is_due_later_is_due_when_the_clock_says_so(world: World) -> None:
    delayed = await world.client.publish("quick", {"n": 1}, delay="1h")
    retried = await world.client.publish("delayed_retry", {"n": 2})
    await world.until_tried(retried, 1)
    world.clock.ahead = HOUR + timedelta(seconds=1)
    assert (await delayed.wait(timeout="10s")).state == State.SUCCEEDED
    await world.until_tried(retried, 2)


async def test_a_clock_that_is_set_back_makes_nothing_run_early(world: World) -> None:
    delayed = await world.client.publish("quick", {"n": 1}, delay="1s")
    world.clock.ahead = -HOUR
    at_once = await world.client.publish("quick", {"n": 2})
    assert (await at_once.wait(timeout="10s")).state == State.SUCCEEDED
    await asyncio.sleep(1.2)  # the delay, by a clock that nobody sets
    assert (await delayed.status()).state == State.SCHEDULED
    world.clock.ahead = timedelta(0)
    assert (await delayed.wait(timeout="10s")).state == State.SUCCEEDED
