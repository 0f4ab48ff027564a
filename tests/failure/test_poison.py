"""A job kills its worker every time: it ends, and its innocent neighbours do not suffer for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brokerq import JobHandle, State
from tests.failure.processes import LOOK, PATIENCE, Spawner, until
from tests.failure.scene import Scene

CRASHES = 3


async def test_only_what_had_started_is_blamed_for_a_crash(
    tmp_path: Path, spawner: Spawner
) -> None:
    """What had ended, but not in the record yet, had started: the poison waits for the records."""
    async with Scene.at(tmp_path, spawner) as scene:
        go = tmp_path / "go"
        beside = [await scene.publish("quick") for _ in range(5)]
        poison = await scene.publish("slow_poison", {"once": str(go)})
        beside += [await scene.publish("quick") for _ in range(20)]
        for death in range(1, CRASHES + 1):
            with scene.start("worker", burst=True, concurrency=1) as worker:
                await until_begun(scene, poison, death)
                await until_recorded(scene, beside)
                go.touch()
                assert await worker.wait() == -9, scene.log()
            go.unlink()
        scene.faults += CRASHES
        await scene.finish(concurrency=1)
        story = await scene.judge()
        view = await poison.status()
        assert (view.state, view.attempts, view.crashes) == (State.DEAD, 0, CRASHES)
        assert [letter.reason for letter in story.letters] == ["crash_loop"]
        for handle in beside:
            view = await handle.status()
            assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 0)
            assert scene.count("begin", handle.id) == 1


async def test_what_is_claimed_ahead_of_a_poison_is_not_blamed(
    tmp_path: Path, spawner: Spawner
) -> None:
    """A worker that knows its pace claims more than it has slots for, here of jobs that sync."""
    async with Scene.at(tmp_path, spawner) as scene:
        handles = [await scene.publish("quick") for _ in range(150)]
        handles.append(await scene.publish("poison"))
        handles += [await scene.publish("quick") for _ in range(50)]
        await work_until_all_ended(scene, concurrency=1, early=0.1)
        assert CRASHES <= scene.faults <= CRASHES + 1  # the first time it may be ahead itself
        await scene.judge()
        for handle in handles:
            view = await handle.status()
            recorded = view.state == State.SUCCEEDED
            assert view.crashes <= scene.count("begin", handle.id) - recorded


async def work_until_all_ended(
    scene: Scene, *, concurrency: int, early: float | None = None
) -> None:
    """Start workers, one after the other, until one is not killed; count those that are."""
    while True:
        with scene.start("worker", burst=True, concurrency=concurrency, early=early) as worker:
            code = await worker.wait()
        if code == 0:
            return
        assert code == -9, scene.log()
        scene.faults += 1


async def until_begun(scene: Scene, handle: JobHandle[Any], times: int) -> None:
    await until(lambda: scene.count("begin", handle.id) == times, f"start {times}")


async def until_recorded(scene: Scene, handles: Sequence[JobHandle[Any]]) -> None:
    """Wait until of these jobs the record knows the end of each that has begun."""
    deadline = time.monotonic() + PATIENCE
    begun = [handle for handle in handles if scene.count("begin", handle.id)]
    while {(await handle.status()).state for handle in begun} - {State.SUCCEEDED}:
        assert time.monotonic() < deadline, scene.log()
        await asyncio.sleep(LOOK)


async def test_what_always_starts_beside_it_gets_through(tmp_path: Path, spawner: Spawner) -> None:
    """Nobody can tell which of five jobs it was; before any ends for it, they are parted."""
    async with Scene.at(tmp_path, spawner) as scene:
        beside = [await scene.publish("quick") for _ in range(2)]
        poison = await scene.publish("poison")
        beside += [await scene.publish("quick") for _ in range(40)]
        await work_until_all_ended(scene, concurrency=5)
        assert scene.faults == CRASHES
        await scene.judge()
        view = await poison.status()
        assert (view.state, view.attempts, view.crashes) == (State.DEAD, 0, CRASHES)
        views = [await handle.status() for handle in beside]
        assert {view.state for view in views} == {State.SUCCEEDED}
        assert max(view.crashes for view in views) < CRASHES
