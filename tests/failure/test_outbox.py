"""Messages that wait in the outbox: relays are killed, the broker goes away, the clock jumps."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from brokerq_sqlite import SqliteBroker

from brokerq import JobHandle, State
from brokerq.store import JobFilter
from tests.failure.ledger import of
from tests.failure.orders import Orders
from tests.failure.processes import Spawner, until
from tests.failure.roles import limited_capabilities
from tests.failure.scene import Scene
from tests.failure.spec import Fault, Outage
from tests.failure.test_clock import HOUR, World, world

__all__ = ["world"]

LONGEST = 0.05
PLAIN = tuple(("quick", {"n": n}, None) for n in range(3))
KEYED = tuple(("threaded", {"n": n}, None) for n in range(3))


@pytest.fixture(autouse=True)
def impatient_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the broker keep short delays only; other processes are told by their place."""
    monkeypatch.setattr(SqliteBroker, "capabilities", limited_capabilities(LONGEST))


async def kept(scene: Scene, count: int = 3) -> Sequence[JobHandle[Any]]:
    """Publish jobs that wait in the outbox for a short time."""
    handles = [await scene.publish("quick", delay="200ms") for _ in range(count)]
    stats = await scene.bq.queues.outbox()
    assert stats is not None
    assert stats.waiting == count
    return handles


POINTS = [
    "before take",
    "after take",
    "before publish",
    "after publish",
    "before sent",
    "after sent",
]


@pytest.mark.parametrize("role", ["relay", "worker"])
async def test_a_relay_that_is_killed_loses_nothing_and_runs_nothing_twice(
    tmp_path: Path, spawner: Spawner, role: Any
) -> None:
    """Between publishing and saying so the message is published twice, and the job runs once."""

    async def kill(scene: Scene, point: str) -> None:
        async with scene:
            handles = await kept(scene)
            await scene.killed(role, Fault(point=point), burst=True)
            await scene.finish()
            story = await scene.judge()
            ran = [entry.job_id for entry in of(story.entries, "effect")]
            assert sorted(ran) == sorted(handle.id for handle in handles)

    # A worker begins what it has relayed; what that leads to is told in test_kill.py.
    points = POINTS if role == "relay" else ["after take", "before sent"]
    scenes = [
        Scene.at(tmp_path, spawner, in_steps=steps, max_delay=LONGEST)
        for _ in points
        for steps in (False, True)
    ]
    twice = [point for point in points for _ in range(2)]
    await asyncio.gather(*map(kill, scenes, twice))


async def test_two_relays_share_the_work_and_one_that_stood_still_changes_nothing(
    tmp_path: Path, spawner: Spawner
) -> None:
    scene = Scene.at(tmp_path, spawner, in_steps=True, max_delay=LONGEST)
    async with scene:
        handles = await kept(scene, 10)
        fault = Fault(point="after publish", signal=signal.SIGSTOP)
        with scene.start("relay", fault=fault, burst=True) as stuck:
            await until(stuck.is_stopped, "the relay to stop")
            await scene.finish()
            stuck.resume()
            assert await stuck.wait() == 0, scene.log()
        story = await scene.judge()
        ran = [entry.job_id for entry in of(story.entries, "effect")]
        assert sorted(ran) == sorted(handle.id for handle in handles)


async def test_publishing_again_after_a_kill_keeps_one_message(
    tmp_path: Path, spawner: Spawner
) -> None:
    async def publish_twice(scene: Scene, point: str) -> None:
        async with scene:
            told: dict[str, Any] = {"publish": KEYED, "delay": "300ms"}
            await scene.killed("publisher", Fault(point=point, nth=2), **told)
            with scene.start("publisher", **told) as second:
                assert await second.wait() == 0, scene.log()
            await scene.finish()
            story = await scene.judge()
            assert sorted(entry.more["n"] for entry in of(story.entries, "effect")) == [0, 1, 2]
            jobs = await scene.bq.jobs.search(JobFilter(), limit=100)
            assert [job.state for job in jobs] == [State.SUCCEEDED] * 3

    points = ["before schedule", "after schedule"]
    scenes = [Scene.at(tmp_path, spawner, in_steps=True, max_delay=LONGEST) for _ in points]
    await asyncio.gather(*map(publish_twice, scenes, points))


@pytest.mark.parametrize(("point", "sold"), [("before commit", [0]), ("after commit", [0, 1])])
async def test_a_program_that_is_killed_has_sold_what_it_has_shipped(
    tmp_path: Path, spawner: Spawner, point: str, sold: list[int]
) -> None:
    """Its orders and the jobs for them are in one transaction, wherever the messages go."""

    async def sell(scene: Scene) -> None:
        async with scene:
            await scene.killed("seller", Fault(point=point, nth=2), publish=PLAIN)
            await scene.finish()
            story = await scene.judge()
            assert sorted(entry.more["n"] for entry in of(story.entries, "effect")) == sold
            assert Orders(scene.place.store_url or scene.place.url).read() == sold

    scenes = [Scene.at(tmp_path, spawner, in_steps=steps) for steps in (False, True)]
    await asyncio.gather(*map(sell, scenes))


@pytest.mark.parametrize("calls", [("publish",), ("take", "sent")], ids=["broker", "store"])
async def test_an_outage_delays_what_waits_and_loses_nothing(
    tmp_path: Path, spawner: Spawner, calls: tuple[str, ...]
) -> None:
    scene = Scene.at(tmp_path, spawner, in_steps=True, max_delay=LONGEST)
    async with scene:
        await kept(scene)
        outage = Outage(calls=calls, seconds=1.0)
        with scene.start("worker", outage=outage, burst=True) as worker:
            assert await worker.wait() == 0, scene.log()
        assert "the outbox cannot be published now" in scene.log()
        story = await scene.judge()
        assert len(of(story.entries, "effect")) == 3


async def test_what_waits_is_due_when_the_clock_says_so(world: World) -> None:
    delayed = await world.client.publish("quick", {"n": 1}, delay="1h")
    assert (await delayed.status()).state == State.SCHEDULED
    world.clock.ahead = HOUR + timedelta(seconds=1)
    assert (await delayed.wait(timeout="10s")).state == State.SUCCEEDED


async def test_a_clock_that_is_set_back_makes_nothing_leave_early(world: World) -> None:
    delayed = await world.client.publish("quick", {"n": 1}, delay="1s")
    world.clock.ahead = -HOUR
    at_once = await world.client.publish("quick", {"n": 2})
    assert (await at_once.wait(timeout="10s")).state == State.SUCCEEDED
    await asyncio.sleep(1.2)  # the delay, by a clock that nobody sets
    assert (await delayed.status()).state == State.SCHEDULED
    world.clock.ahead = timedelta(0)
    assert (await delayed.wait(timeout="10s")).state == State.SUCCEEDED
