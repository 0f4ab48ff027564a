"""The store cannot be reached for a while: jobs wait, and nobody's attempt is used up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

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
        story = await scene.judge()
        views = [await handle.status() for handle in handles]
        assert [(view.state, view.attempts, view.crashes) for view in views] == [
            (State.SUCCEEDED, 1, 0),
            (State.SUCCEEDED, 2, 0),
            (State.DEAD, 3, 0),
            (State.DEAD, 1, 0),
            (State.SUCCEEDED, 1, 0),
            (State.SUCCEEDED, 1, 0),
        ]
        began = [sum(entry.job_id == h.id for entry in story.entries) for h in handles]
        assert "the test keeps the store away" in scene.log()
        runs = [scene.count("begin", handle.id) for handle in handles]
        assert (runs, began[0]) == ([1, 2, 3, 1, 1, 2], 3)


@pytest.mark.parametrize("in_steps", [False, True], ids=["in one", "in steps"])
async def test_nothing_is_lost_or_repeated_while_the_store_is_away(
    tmp_path: Path, spawner: Spawner, *, in_steps: bool
) -> None:
    """Longer than a lease, while jobs are claimed, renewed and finished."""
    outages = [
        Outage(calls=("claim",)),
        Outage(calls=("finish",)),
        Outage(calls=("finish",), nth=2),
        Outage(calls=("claim", "renew", "finish", "get"), nth=3),
    ]
    await asyncio.gather(
        *(go_through(Scene.at(tmp_path, spawner, in_steps=in_steps), outage) for outage in outages)
    )


async def test_a_lease_that_could_not_be_renewed_is_kept_if_nobody_took_it(
    tmp_path: Path, spawner: Spawner
) -> None:
    async with Scene.at(tmp_path, spawner) as scene:
        handle = await scene.publish("slow", {"seconds": 2.5})
        with scene.start("worker", outage=Outage(calls=("renew",), seconds=1.5)) as worker:
            await scene.until_empty()
            worker.terminate()
            assert await worker.wait() == 0
        await scene.judge()
        view = await handle.status()
        assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 0)
        assert scene.count("begin", handle.id) == 1
