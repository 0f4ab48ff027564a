"""A handler blocks the program's event loop for longer than the lease."""

from __future__ import annotations

from pathlib import Path

from brokerq import State
from tests.failure.processes import Spawner
from tests.failure.scene import Scene


async def test_a_blocked_loop_loses_no_lease(tmp_path: Path, spawner: Spawner) -> None:
    """The engine beats on a loop of its own; what shares the blocked loop keeps its lease too."""
    async with Scene.at(tmp_path, spawner) as scene:
        neighbour = await scene.publish("slow", {"seconds": 0.2})
        blocking = await scene.publish("blocking", {"seconds": 3})
        with scene.start("worker", concurrency=2) as one, scene.start("worker") as other:
            await scene.until_empty()
            for worker in (one, other):
                worker.terminate()
                assert await worker.wait() == 0, scene.log()
        await scene.judge()
        for handle in (neighbour, blocking):
            view = await handle.status()
            assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 0)
            assert scene.count("begin", handle.id) == 1
