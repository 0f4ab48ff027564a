"""A worker on RabbitMQ is killed: what it held comes back at once, and is done once.

Settling is the adapter's here, and takes steps: follow-up, confirm, acknowledgement.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from brokerq import State
from tests.failure.on_rabbitmq import scene_on
from tests.failure.processes import Spawner
from tests.failure.test_kill import (
    BETWEEN_CALLS,
    FLAKY,
    HOPELESS,
    NAMES,
    SNOOZED,
    Fate,
    kill_on_all,
)
from tests.services.rabbitmq import Node

pytestmark = pytest.mark.timeout(120)  # a node may take long to start on a busy machine


@pytest.mark.parametrize(
    ("point", "crashes", "again"),
    [
        ("after claim", 1, {0, 1}),
        ("after effect", 1, {1}),
        ("after finish", 0, {0}),
        ("after settle", 0, {0}),
    ],
)
async def test_whatever_a_killed_worker_leaves_another_one_carries_on(
    tmp_path: Path,
    spawner: Spawner,
    rabbit: Node,
    *,
    point: str,
    crashes: int,
    again: Collection[int],
) -> None:
    """Fates with a follow-up; `make chaos` has all, at every point."""
    fates = [FLAKY, HOPELESS] if point == "after effect" else [FLAKY, HOPELESS, SNOOZED]
    tries = [(fate, scene_on(tmp_path, spawner, rabbit)) for fate in fates]
    await kill_on_all(tries, point, crashes, again)


@pytest.mark.chaos
@pytest.mark.parametrize(NAMES, BETWEEN_CALLS)
async def test_every_fate_survives_a_kill_at_every_point(
    tmp_path: Path,
    spawner: Spawner,
    rabbit: Node,
    *,
    point: str,
    fates: Sequence[Fate],
    crashes: int,
    again: Collection[int],
) -> None:
    for fate in fates:
        await kill_on_all([(fate, scene_on(tmp_path, spawner, rabbit))], point, crashes, again)


async def test_a_job_that_kills_its_workers_ends_among_the_dead_letters(
    tmp_path: Path, spawner: Spawner, rabbit: Node
) -> None:
    async with scene_on(tmp_path, spawner, rabbit) as scene:
        poison = await scene.publish("poison")
        beside = [await scene.publish("quick") for _ in range(20)]
        while True:
            with scene.start("worker", burst=True, concurrency=1) as worker:
                code = await worker.wait()
            if code == 0:
                break
            assert code == -9, scene.log()
            scene.faults += 1
        assert scene.faults == 3
        story = await scene.judge()
        view = await poison.status()
        assert (view.state, view.attempts, view.crashes) == (State.DEAD, 0, 3)
        assert [letter.reason for letter in story.letters] == ["crash_loop"]
        assert {(await handle.status()).state for handle in beside} == {State.SUCCEEDED}
