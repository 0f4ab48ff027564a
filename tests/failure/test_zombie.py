"""A worker stands still for longer than its lease, and wakes up: it can change nothing any more."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from brokerq import State
from tests.failure.ledger import of
from tests.failure.processes import Spawner, until
from tests.failure.scene import Scene
from tests.failure.spec import Fault


async def outlive(scene: Scene, point: str, wanted: str) -> None:
    """Have a worker stop at the point, another one do its job, and the first one go on."""
    async with scene:
        handle = await scene.publish("turncoat", {"first": wanted})
        fault = Fault(point=point, signal=signal.SIGSTOP)
        with scene.start("worker", fault=fault) as zombie:
            await until(zombie.is_stopped, f"the worker to stop {point}")
            scene.faults += 1
            await scene.finish()
            done = await handle.wait(timeout="10s")
            assert done.state == State.SUCCEEDED
            zombie.resume()
            if scene.count("begin", handle.id) > 1:  # else it was only to settle
                await until(lambda: len(scene.outcomes(handle.id)) == 2, "the zombie to end its run")
            zombie.terminate()
            assert await zombie.wait() == 0, scene.log()
        story = await scene.judge()
        assert await handle.status() == done
        begun = of(story.entries, "begin", handle.id)
        assert done.result == json.dumps({"fence": begun[-1].fence}, separators=(",", ":")).encode()
        if len(begun) > 1:
            [report] = [e for e in of(story.entries, "report") if e.pid == zombie.pid]
            assert (report.more["outcomes"], report.more["lost"]) == ({}, 1)


@pytest.mark.parametrize("wanted", ["ok", "fail", "reject", "snooze"])
async def test_a_zombie_changes_nothing_whatever_its_verdict(
    tmp_path: Path, spawner: Spawner, wanted: str
) -> None:
    modes = [Scene.at(tmp_path, spawner, in_steps=mode) for mode in (False, True)]
    await asyncio.gather(*(outlive(scene, "after effect", wanted) for scene in modes))


async def test_a_zombie_settles_nothing_that_has_been_settled_for_it(
    tmp_path: Path, spawner: Spawner
) -> None:
    modes = [Scene.at(tmp_path, spawner, in_steps=mode) for mode in (False, True)]
    await asyncio.gather(*(outlive(scene, "after finish", "ok") for scene in modes))
