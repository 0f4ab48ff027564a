"""A worker on each server is killed: another one carries on, wherever the jobs are.

Settling is the adapter's here; on RabbitMQ and SQS it takes steps: follow-up, confirm,
acknowledgement. What the worker held comes back at once on RabbitMQ, else with the lease.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest

from brokerq import State
from tests.failure import on_postgres, on_rabbitmq, on_sqs
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.failure.test_kill import (
    BETWEEN_CALLS,
    FLAKY,
    HOPELESS,
    NAMES,
    SNOOZED,
    Fate,
    kill_on_all,
)
from tests.services import sqs

pytestmark = pytest.mark.timeout(sqs.INSTALLATION)

Make = Callable[[], Scene]
PLACES: dict[str, tuple[str, Callable[..., Scene]]] = {
    "rabbitmq": ("rabbit", on_rabbitmq.scene_on),
    "sqs": ("endpoint", on_sqs.scene_on),
    "postgresql": ("postgres", on_postgres.scene_on),
}


@pytest.fixture(params=PLACES)
def make(request: pytest.FixtureRequest, tmp_path: Path, spawner: Spawner) -> Make:
    """Return what makes a scene; the server is started by first use."""
    fixture, scene_on = PLACES[request.param]
    server = request.getfixturevalue(fixture)
    return lambda: scene_on(tmp_path, spawner, server)


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
    make: Make, *, point: str, crashes: int, again: Collection[int]
) -> None:
    """Fates with a follow-up; `make chaos` has all, at every point."""
    fates = [FLAKY, HOPELESS] if point == "after effect" else [FLAKY, HOPELESS, SNOOZED]
    await kill_on_all([(fate, make()) for fate in fates], point, crashes, again)


@pytest.mark.chaos
@pytest.mark.parametrize(NAMES, BETWEEN_CALLS)
async def test_every_fate_survives_a_kill_at_every_point(
    make: Make, *, point: str, fates: Sequence[Fate], crashes: int, again: Collection[int]
) -> None:
    for fate in fates:
        await kill_on_all([(fate, make())], point, crashes, again)


async def test_a_job_that_kills_its_workers_ends_among_the_dead_letters(make: Make) -> None:
    async with make() as scene:
        poison = await scene.publish("poison")
        beside = [await scene.publish("quick") for _ in range(10)]
        while True:
            with scene.start("worker", burst=True, concurrency=1) as worker:
                code = await worker.wait()
            if code == 0:
                break
            assert code == -signal.SIGKILL, scene.log()
            scene.faults += 1
        assert scene.faults == 3
        story = await scene.judge()
        view = await poison.status()
        assert (view.state, view.attempts, view.crashes) == (State.DEAD, 0, 3)
        assert [letter.reason for letter in story.letters] == ["crash_loop"]
        assert {(await handle.status()).state for handle in beside} == {State.SUCCEEDED}
