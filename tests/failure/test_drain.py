"""A worker is asked to stop while it has jobs of every kind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from brokerq import JobHandle, State
from tests.failure.ledger import of
from tests.failure.processes import Spawner, until
from tests.failure.roles import ABANDONED, INTERRUPTED
from tests.failure.scene import Scene
from tests.failure.spec import Outage

LATER = "30s"
AWAY = Outage(calls=("finish",), seconds=60)


async def begun(scene: Scene, handles: list[JobHandle[object]]) -> None:
    ids = {handle.id for handle in handles}
    await until(
        lambda: ids <= {entry.job_id for entry in of(scene.entries(), "begin")},
        "the jobs to begin",
    )


async def test_a_worker_that_is_asked_to_stop_leaves_every_job_in_order(
    tmp_path: Path, spawner: Spawner
) -> None:
    async with Scene.at(tmp_path, spawner) as scene:
        finishing = [
            await scene.publish("slow", {"seconds": 1}),
            await scene.publish("slow_thread", {"seconds": 1}),
        ]
        too_long = await scene.publish("slow", {"seconds": 60})
        snoozing = await scene.publish("snoozed", {"naps": 30})
        retrying = await scene.publish("delayed_retry")
        delayed = await scene.publish("quick", delay=LATER)
        with scene.start("worker", concurrency=5, grace=2.0) as worker:
            await begun(scene, [*finishing, too_long, snoozing, retrying])
            waiting = [await scene.publish("slow", {"seconds": 60}) for _ in range(5)]
            await begun(scene, waiting[:2])
            worker.terminate()
            assert await worker.wait() == 0, scene.log()
        kinds = [finishing[0], finishing[1], too_long, snoozing, retrying, delayed, *waiting]
        views = [await handle.status() for handle in kinds]
        came = [(view.state, view.attempts, view.crashes) for view in views]
        assert came == [
            (State.SUCCEEDED, 1, 0),
            (State.SUCCEEDED, 1, 0),
            (State.QUEUED, 0, 0),
            (State.SCHEDULED, 0, 0),
            (State.RETRYING, 1, 0),
            (State.SCHEDULED, 0, 0),
            *[(State.QUEUED, 0, 0)] * 5,
        ]
        [stats] = await scene.bq.queues.stats()
        assert (stats.ready, stats.in_flight, stats.delayed) == (6, 0, 3)
        assert scene.outcomes(too_long.id) == ["interrupted"]


async def test_a_second_signal_ends_the_grace(tmp_path: Path, spawner: Spawner) -> None:
    async with Scene.at(tmp_path, spawner) as scene:
        handle = await scene.publish("slow", {"seconds": 60})
        with scene.start("worker", grace=60.0) as worker:
            await begun(scene, [handle])
            worker.terminate()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(worker.wait(), 0.5)
            worker.terminate()
            assert await worker.wait(patience=3.0) == INTERRUPTED
        view = await handle.status()
        assert (view.state, view.attempts, view.crashes) == (State.QUEUED, 0, 0)
        assert scene.outcomes(handle.id) == ["interrupted"]


async def test_a_thread_that_does_not_return_is_abandoned_and_its_job_taken_over(
    tmp_path: Path, spawner: Spawner
) -> None:
    """It cannot be made to end; the exit code says so, and the lease does the rest."""
    async with Scene.at(tmp_path, spawner) as scene:
        handle = await scene.publish("turncoat_thread", {"seconds": 60})
        with scene.start("worker", grace=0.2) as worker:
            await begun(scene, [handle])
            worker.terminate()
            assert await worker.wait() == ABANDONED
        scene.faults += 1
        await scene.finish()
        await scene.judge()
        view = await handle.status()
        assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 1)


async def test_a_killed_drain_loses_nothing(tmp_path: Path, spawner: Spawner) -> None:
    async with Scene.at(tmp_path, spawner) as scene:
        for _ in range(20):
            await scene.publish("slow", {"seconds": 0.3})
        with scene.start("worker") as worker:
            await until(lambda: len(of(scene.entries(), "begin")) >= 5, "jobs to begin")
            worker.terminate()
            worker.send(9)
            assert await worker.wait() == -9
        scene.faults += 1
        await scene.finish(concurrency=20)
        await scene.judge()


async def test_what_cannot_be_recorded_any_more_is_abandoned(
    tmp_path: Path, spawner: Spawner
) -> None:
    """The handler is done, but only this process knows it: the job is run once more."""
    async with Scene.at(tmp_path, spawner) as scene:
        handle = await scene.publish("quick")
        with scene.start("worker", grace=0.2, outage=AWAY) as worker:
            await until(lambda: scene.outcomes(handle.id) == ["ok"], "the handler to be done")
            worker.terminate()
            assert await worker.wait() == ABANDONED
        scene.faults += 1
        await scene.finish()
        await scene.judge()
        view = await handle.status()
        assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 1)
