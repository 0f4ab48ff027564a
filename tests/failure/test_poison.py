"""A job kills its worker every time: it ends, and its innocent neighbours do not suffer for it."""

from __future__ import annotations

from pathlib import Path

from brokerq import State
from tests.failure.processes import Spawner
from tests.failure.scene import Scene

CRASHES = 3


async def test_only_what_had_started_is_blamed_for_a_crash(
    tmp_path: Path, spawner: Spawner
) -> None:
    async with Scene.at(tmp_path, spawner) as scene:
        before = [await scene.publish("quick") for _ in range(5)]
        poison = await scene.publish("poison")
        after = [await scene.publish("quick") for _ in range(20)]
        deaths = 0
        while True:
            with scene.start("worker", burst=True, concurrency=1) as worker:
                code = await worker.wait()
            if code == 0:
                break
            assert code == -9, scene.log()
            deaths += 1
        assert deaths == CRASHES
        scene.faults += deaths
        story = await scene.judge()
        view = await poison.status()
        assert (view.state, view.attempts, view.crashes) == (State.DEAD, 0, CRASHES)
        assert [letter.reason for letter in story.letters] == ["crash_loop"]
        just_before = before.pop()  # its end may not have been recorded when the worker died
        assert (await just_before.status()).state == State.SUCCEEDED
        for handle in (*before, *after):
            view = await handle.status()
            assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 0)
            assert scene.count("begin", handle.id) == 1


async def test_what_always_starts_beside_it_gets_through(tmp_path: Path, spawner: Spawner) -> None:
    """Nobody can tell which of five jobs it was; before any ends for it, they are parted."""
    async with Scene.at(tmp_path, spawner) as scene:
        beside = [await scene.publish("quick") for _ in range(2)]
        poison = await scene.publish("poison")
        beside += [await scene.publish("quick") for _ in range(40)]
        while True:
            with scene.start("worker", burst=True, concurrency=5) as worker:
                code = await worker.wait()
            if code == 0:
                break
            assert code == -9, scene.log()
            scene.faults += 1
        assert scene.faults == CRASHES
        await scene.judge()
        view = await poison.status()
        assert (view.state, view.attempts, view.crashes) == (State.DEAD, 0, CRASHES)
        views = [await handle.status() for handle in beside]
        assert {view.state for view in views} == {State.SUCCEEDED}
        assert max(view.crashes for view in views) < CRASHES
