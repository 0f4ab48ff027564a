"""Jobs that run for longer than RabbitMQ lets a delivery be held: it takes them away, and others.

Below 4.3 it closes the channel that the delivery was held on, from then on it cancels the consumer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brokerq import BrokerQ, State
from brokerq.errors import CapabilityError
from tests.failure.ledger import of
from tests.failure.on_rabbitmq import dismiss, scene_on, until, until_all_ended
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.services.rabbitmq import Node, own_node

pytestmark = pytest.mark.timeout(240)  # a node may take long to start on a busy machine

LONG = {"seconds": 7.0}
"""More than two timeouts."""
LOST = "lost the broker while reading"


@pytest.fixture(scope="module")
def impatient() -> Iterator[Node]:
    """Yield a broker that waits for two seconds, and looks twice a second, not once a minute."""
    with own_node({"consumer_timeout": "2000", "channel_tick_interval": "500"}) as node:
        yield node


async def test_a_job_that_is_taken_from_its_worker_runs_on_and_counts_once(
    tmp_path: Path, spawner: Spawner, impatient: Node
) -> None:
    """Its lease is extended in the store meanwhile, and what comes back waits for it."""
    async with scene_on(tmp_path, spawner, impatient) as scene:
        long = await scene.publish("slow", LONG)
        with scene.start("worker", concurrency=2) as worker:
            await until(lambda: bool(of(scene.entries(), "begin")), "a start", scene)
            for _ in range(20):
                await scene.publish("flaky")
            await until_all_ended(scene)
            await dismiss(scene, worker)
        await judge_once(scene, long.id)
        assert scene.log().count(LOST) >= 2, scene.log()


async def test_a_job_that_is_taken_from_its_worker_is_not_run_by_another_one(
    tmp_path: Path, spawner: Spawner, impatient: Node
) -> None:
    """The other one finds its lease held, and then its end recorded."""
    async with scene_on(tmp_path, spawner, impatient) as scene:
        long = await scene.publish("slow", LONG)
        with scene.start("worker", concurrency=1) as first:
            await until(lambda: bool(of(scene.entries(), "begin")), "a start", scene)
            with scene.start("worker", concurrency=1) as other:
                await until(lambda: LOST in scene.log(), "it to be taken away", scene)
                beside = [await scene.publish("quick") for _ in range(20)]
                await until_all_ended(scene)
                await dismiss(scene, first, other)
        await judge_once(scene, long.id)
        for handle in beside:
            assert scene.count("begin", handle.id) == 1


async def judge_once(scene: Scene, job_id: str) -> None:
    """Check that nothing is wrong, and that the job was run once and its end recorded."""
    story = await scene.judge()
    assert [len(of(story.entries, kind, job_id)) for kind in ("begin", "effect", "end")] == [1] * 3
    view = await scene.view(job_id)
    assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 0)


async def test_a_worker_does_not_start_with_a_job_that_would_be_taken_away(
    impatient: Node,
) -> None:
    url = f"{impatient.url}?consumer_timeout=2s"
    async with BrokerQ("shop", url=url, store_url="memory://timeout") as bq:

        @bq.job(timeout="1s")
        async def brief() -> None: ...

        await bq.run_worker(burst=True)

        @bq.job(timeout="3s")
        async def report() -> None: ...

        with pytest.raises(CapabilityError, match=r"'report' has timeout=3s.*takes back.*2s"):
            await bq.run_worker(burst=True)
