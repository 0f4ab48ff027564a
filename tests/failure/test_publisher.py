"""A publisher is killed in the middle; another one publishes the same again, under the same key."""

from __future__ import annotations

import asyncio
from pathlib import Path

from brokerq import State
from brokerq.store import JobFilter
from tests.failure.ledger import of
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.failure.spec import Fault

KEYED = tuple(("threaded", {"n": n}, None) for n in range(3))
PLAIN = tuple(("quick", {"n": n}, None) for n in range(3))


async def publish_twice(scene: Scene, point: str) -> None:
    async with scene:
        await scene.killed("publisher", Fault(point=point, nth=2), publish=KEYED)
        with scene.start("publisher", publish=KEYED) as second:
            assert await second.wait() == 0, scene.log()
        await scene.finish()
        story = await scene.judge()
        assert sorted(entry.more["n"] for entry in of(story.entries, "effect")) == [0, 1, 2]
        jobs = await scene.bq.jobs.search(JobFilter(), limit=100)
        assert [job.state for job in jobs] == [State.SUCCEEDED] * 3


async def test_a_key_makes_publishing_again_after_a_kill_harmless(
    tmp_path: Path, spawner: Spawner
) -> None:
    in_one = ["before publish_recorded", "after publish_recorded"]
    in_steps = ["after reserve", "before publish", "after publish", "after enqueue"]
    await asyncio.gather(
        *(
            publish_twice(Scene.at(tmp_path, spawner, in_steps=point in in_steps), point)
            for point in in_one + in_steps
        )
    )


async def test_without_a_key_what_was_confirmed_runs_once(tmp_path: Path, spawner: Spawner) -> None:
    """What was not confirmed may have been published or not: nobody can know."""

    async def publish(scene: Scene, point: str) -> set[int]:
        async with scene:
            await scene.killed("publisher", Fault(point=point, nth=2), publish=PLAIN)
            await scene.finish()
            story = await scene.judge()
            ran = [entry.more["n"] for entry in of(story.entries, "effect")]
            assert len(ran) == len(set(ran))
            return set(ran)

    points = [
        "before publish_recorded",
        "after publish_recorded",
        "before publish",
        "after publish",
    ]
    scenes = [Scene.at(tmp_path, spawner, in_steps="recorded" not in point) for point in points]
    ran = await asyncio.gather(*map(publish, scenes, points))
    assert ran == [{0}, {0, 1}, {0}, {0, 1}]


async def test_a_message_that_the_broker_took_three_times_runs_once(
    tmp_path: Path, spawner: Spawner
) -> None:
    async def publish(scene: Scene) -> None:
        async with scene:
            with scene.start("publisher", publish=KEYED, copies=3) as publisher:
                assert await publisher.wait() == 0
            with scene.start("worker", concurrency=1) as one, scene.start("worker") as other:
                await scene.until_empty()
                for worker in (one, other):
                    worker.terminate()
                    assert await worker.wait() == 0, scene.log()
            story = await scene.judge()
            assert sorted(entry.more["n"] for entry in of(story.entries, "begin")) == [0, 1, 2]

    modes = [Scene.at(tmp_path, spawner, in_steps=mode) for mode in (False, True)]
    await asyncio.gather(*map(publish, modes))
