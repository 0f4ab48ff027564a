"""Store or broker cannot be reached for a while: jobs wait, and nobody's attempt is used up."""

from __future__ import annotations

import asyncio
from pathlib import Path

from brokerq import State
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.failure.spec import Outage

JOBS = ["quick", "flaky", "hopeless", "buried", "threaded", "snoozed"]


async def go_through(scene: Scene, outage: Outage) -> None:
    async with scene:
        handles = [await scene.publish(job) for job in JOBS]
        with scene.start("worker", outage=outage) as worker:
            await scene.until_empty()
            worker.terminate()
            assert await worker.wait() == 0, scene.log()
        await scene.judge()
        views = [await handle.status() for handle in handles]
        assert [(view.state, view.attempts, view.crashes) for view in views] == [
            (State.SUCCEEDED, 1, 0),
            (State.SUCCEEDED, 2, 0),
            (State.DEAD, 3, 0),
            (State.DEAD, 1, 0),
            (State.SUCCEEDED, 1, 0),
            (State.SUCCEEDED, 1, 0),
        ]
        assert outage.calls == ("extend",) or "the test keeps" in scene.log()
        assert [scene.count("begin", handle.id) for handle in handles] == [1, 2, 3, 1, 1, 2]
        assert [scene.count("effect", handle.id) for handle in handles] == [1, 2, 3, 1, 1, 1]


async def test_nothing_is_lost_or_repeated_while_the_store_is_away(
    tmp_path: Path, spawner: Spawner
) -> None:
    """Longer than a lease, while jobs are claimed, renewed and finished."""
    outages = [
        Outage(calls=("claim",)),
        Outage(calls=("finish",)),
        Outage(calls=("finish",), nth=2),
        Outage(calls=("claim", "renew", "finish", "get"), nth=3),
    ]
    await asyncio.gather(
        *(
            go_through(Scene.at(tmp_path, spawner, in_steps=mode), outage)
            for outage in outages
            for mode in (False, True)
        )
    )


async def test_nothing_is_lost_or_repeated_while_the_broker_is_away(
    tmp_path: Path, spawner: Spawner
) -> None:
    """What could not be settled is delivered again, and settled as it was recorded."""
    outages = [
        Outage(calls=("receive",)),
        Outage(calls=("settle",)),
        Outage(calls=("settle",), nth=3),
        Outage(calls=("extend",)),
        Outage(calls=("receive", "settle", "extend"), nth=4),
    ]
    await asyncio.gather(
        *(go_through(Scene.at(tmp_path, spawner, in_steps=True), outage) for outage in outages)
    )


async def keep(scene: Scene, outage: Outage) -> None:
    async with scene:
        handle = await scene.publish("slow", {"seconds": 2.5})
        with scene.start("worker", outage=outage) as worker:
            await scene.until_empty()
            worker.terminate()
            assert await worker.wait() == 0, scene.log()
        await scene.judge()
        view = await handle.status()
        assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 0)
        assert scene.count("begin", handle.id) == 1


async def test_a_lease_that_could_not_be_renewed_is_kept_if_nobody_took_it(
    tmp_path: Path, spawner: Spawner
) -> None:
    """Where the broker delivers it again meanwhile, the same worker knows that it has it."""
    calls = [("renew",), ("extend",), ("renew", "extend")]
    await asyncio.gather(
        *(
            keep(Scene.at(tmp_path, spawner, in_steps=mode), Outage(calls=each))
            for each in calls
            for mode in (False, True)
        )
    )
