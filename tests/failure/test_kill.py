"""A worker is killed at a named point of a job's life; another one does the rest.

Where broker and store are one database, and where they are two and settling takes steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from brokerq import JobView, State
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.failure.spec import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What a job comes to.

    Attributes:
        nth: Which of its runs a worker is killed in.
        runs: How often its handler begins if nothing goes wrong.
    """

    job: str
    state: State
    attempts: int
    nth: int = 1
    runs: int = 1


QUICK = Fate(job="quick", state=State.SUCCEEDED, attempts=1)
THREADED = Fate(job="threaded", state=State.SUCCEEDED, attempts=1)
FLAKY = Fate(job="flaky", state=State.SUCCEEDED, attempts=2, runs=2)
HOPELESS = Fate(job="hopeless", state=State.DEAD, attempts=3, nth=3, runs=3)
REJECTED = Fate(job="buried", state=State.DEAD, attempts=1)
SNOOZED = Fate(job="snoozed", state=State.SUCCEEDED, attempts=1, runs=2)
DROPPED = Fate(job="dropped", state=State.SKIPPED, attempts=0)

EVERY = (QUICK, THREADED, FLAKY, HOPELESS, REJECTED, SNOOZED, DROPPED)
WITH_EFFECT = (QUICK, THREADED, FLAKY, HOPELESS, REJECTED)
TELLING = (QUICK, FLAKY, HOPELESS, SNOOZED)
WITH_FOLLOW_UP = (FLAKY, HOPELESS, REJECTED, SNOOZED)


async def kill_on(scene: Scene, fate: Fate, point: str) -> tuple[JobView, int]:
    """Return the record, and the runs, of a job whose worker was killed at the point."""
    async with scene:
        handle = await scene.publish(fate.job)
        await scene.killed("worker", Fault(point=point, nth=fate.nth))
        await scene.finish()
        await scene.judge()
        return await scene.view(handle.id), scene.count("begin", handle.id)


NAMES = ("point", "fates", "crashes", "again")
"""`crashes`: what is recorded of the kill. `again`: how often the handler ran once too often."""
BETWEEN_CALLS = [
    ("before claim", EVERY, 0, {0}),
    ("after claim", EVERY, 1, {0, 1}),
    ("after effect", WITH_EFFECT, 1, {1}),
    ("after finish", EVERY, 0, {0}),
    ("before settle", EVERY, 0, {0}),
    ("after settle", EVERY, 0, {0}),
]
POINTS = pytest.mark.parametrize(
    NAMES, [*BETWEEN_CALLS, ("after follow_up", WITH_FOLLOW_UP, 0, {0})]
)


async def kill_on_all(
    tries: Sequence[tuple[Fate, Scene]], point: str, crashes: int, again: Collection[int]
) -> None:
    came = await asyncio.gather(*(kill_on(scene, fate, point) for fate, scene in tries))
    for (fate, _), (view, runs) in zip(tries, came, strict=True):
        assert (view.job, view.state) == (fate.job, fate.state)
        assert (view.attempts, view.crashes) == (fate.attempts, crashes), fate.job
        assert runs - fate.runs in again, fate.job


@POINTS
async def test_whatever_a_killed_worker_leaves_another_one_carries_on(
    tmp_path: Path,
    spawner: Spawner,
    *,
    point: str,
    fates: Sequence[Fate],
    crashes: int,
    again: Collection[int],
) -> None:
    """A few fates, in steps where there are any; `make chaos` has all, both ways."""
    tries = [
        (fate, Scene.at(tmp_path, spawner, in_steps=fate in WITH_FOLLOW_UP))
        for fate in fates
        if fate in TELLING
    ]
    await kill_on_all(tries, point, crashes, again)


@pytest.mark.chaos
@POINTS
async def test_it_does_not_matter_whether_broker_and_store_are_one(
    tmp_path: Path,
    spawner: Spawner,
    *,
    point: str,
    fates: Sequence[Fate],
    crashes: int,
    again: Collection[int],
) -> None:
    modes = [True] if point == "after follow_up" else [False, True]
    tries = [(fate, Scene.at(tmp_path, spawner, in_steps=mode)) for mode in modes for fate in fates]
    await kill_on_all(tries, point, crashes, again)


async def finish_redrive(scene: Scene, point: str) -> None:
    async with scene:
        handle = await scene.publish("buried")
        await scene.finish()
        await scene.killed("redriver", Fault(point=point), redrive=(handle.id,))
        with scene.start("worker") as worker:
            await handle.result(timeout="10s")
            await scene.until_no_redrive_is_left()
            worker.terminate()
            assert await worker.wait() == 0
        await scene.finish()
        await scene.judge()
        view = await handle.status()
        assert (view.state, view.attempts, view.redrives) == (State.SUCCEEDED, 1, 1)
        assert scene.count("begin", handle.id) == 2


async def test_a_redrive_that_was_killed_is_finished_by_a_worker(
    tmp_path: Path, spawner: Spawner
) -> None:
    points = ["after begin_redrive", "after publish", "after end_redrive"]
    await asyncio.gather(
        *(
            finish_redrive(Scene.at(tmp_path, spawner, in_steps=mode), point)
            for point in points
            for mode in (False, True)
        )
    )
