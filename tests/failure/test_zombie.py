"""A worker stands still for longer than its lease, and wakes up: it can change nothing any more."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from brokerq import State
from tests.failure.ledger import of
from tests.failure.processes import Spawner, until
from tests.failure.scene import Scene
from tests.failure.spec import Fault


async def outlive(scene: Scene, point: str, wanted: str, *, runs: int) -> None:
    """Have a worker stop at the point, another one do its job, and the first one go on.

    `runs`: how often the handler begins in all.
    """
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
                await until(
                    lambda: len(scene.outcomes(handle.id)) == 2, "the zombie to end its run"
                )
            zombie.terminate()
            assert await zombie.wait() == 0, scene.log()
        story = await scene.judge()
        assert await handle.status() == done
        begun = of(story.entries, "begin", handle.id)
        assert len(begun) == runs
        assert done.result == b'{"fence":%d}' % begun[-1].fence
        [report] = [e for e in of(story.entries, "report") if e.pid == zombie.pid]
        recorded = point == "after finish"
        assert report.more["outcomes"] == ({"succeeded": 1} if recorded else {})
        assert report.more["lost"] == (0 if recorded else 1)


async def test_a_zombie_changes_nothing_whatever_its_verdict(
    tmp_path: Path, spawner: Spawner
) -> None:
    await asyncio.gather(
        *(
            outlive(Scene.at(tmp_path, spawner, in_steps=mode), "after effect", wanted, runs=2)
            for wanted in ("ok", "fail", "reject", "snooze")
            for mode in (False, True)
        )
    )


async def interfere(scene: Scene, wanted: str) -> None:
    """Have a worker come back while another one is at its job."""
    async with scene:
        handle = await scene.publish("turncoat", {"first": wanted, "seconds": 1.5})
        fault = Fault(point="after effect", signal=signal.SIGSTOP)
        with scene.start("worker", fault=fault) as zombie, ExitStack() as stack:
            await until(zombie.is_stopped, "the worker to stop")
            scene.faults += 1
            other = stack.enter_context(scene.start("worker"))
            await until(lambda: scene.count("begin", handle.id) == 2, "the other one to begin")
            zombie.resume()
            await until(lambda: scene.outcomes(handle.id) == [wanted], "the zombie to end its run")
            zombie.terminate()
            assert await zombie.wait() == 0, scene.log()
            assert scene.outcomes(handle.id) == [wanted]
            assert (await handle.status()).state == State.RUNNING
            await scene.until_empty()
            other.terminate()
            assert await other.wait() == 0, scene.log()
        await scene.judge()
        view = await handle.status()
        assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 1)
        assert scene.count("begin", handle.id) == 2


async def test_a_zombie_does_not_disturb_who_has_its_job_now(
    tmp_path: Path, spawner: Spawner
) -> None:
    await asyncio.gather(
        *(
            interfere(Scene.at(tmp_path, spawner, in_steps=mode), wanted)
            for wanted in ("ok", "fail", "reject", "snooze")
            for mode in (False, True)
        )
    )


@pytest.mark.parametrize("point", ["after claim", "after finish"])
async def test_a_zombie_neither_begins_nor_settles_what_was_done_for_it(
    tmp_path: Path, spawner: Spawner, point: str
) -> None:
    """It stood still before the handler's first step, or just before the delivery was settled."""
    modes = [Scene.at(tmp_path, spawner, in_steps=mode) for mode in (False, True)]
    await asyncio.gather(*(outlive(scene, point, "ok", runs=1) for scene in modes))
