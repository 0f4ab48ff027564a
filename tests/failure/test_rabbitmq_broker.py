"""RabbitMQ itself goes: killed, restarted, out of memory; with jobs on their way and delayed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from brokerq import State
from tests.failure.jobs import QUEUE
from tests.failure.ledger import of
from tests.failure.on_rabbitmq import (
    SLOTS,
    batch,
    confirmed,
    dismiss,
    scene_on,
    until,
    until_all_ended,
    with_publish_timeout,
)
from tests.failure.processes import PATIENCE, Spawner
from tests.failure.scene import Scene
from tests.services.rabbitmq import Node

pytestmark = pytest.mark.timeout(240)  # a node may take long to start on a busy machine

DELAYS = (0.5, 1, 2, 3, 5, 7)
JOBS = ("quick", "flaky", "threaded", "snoozed", "hopeless", "dropped")


@pytest.mark.parametrize("how", ["killed", "restarted"])
async def test_a_broker_that_goes_under_load_loses_nothing(
    tmp_path: Path, spawner: Spawner, rabbit: Node, *, how: str
) -> None:
    """Retries and delayed jobs too: some become due while it is away, none comes early."""
    jobs = batch(200, *JOBS)
    async with scene_on(tmp_path, spawner, rabbit) as scene:
        with scene.start("worker", concurrency=SLOTS) as worker, ExitStack() as later:
            await scene.publish("quick")
            await until(lambda: bool(of(scene.entries(), "begin")), "the worker to begin", scene)
            delayed = [await scene.publish("quick", delay=f"{seconds}s") for seconds in DELAYS]
            publisher = later.enter_context(scene.start("publisher", publish=jobs, together=5))
            await until(lambda: len(confirmed(scene)) >= 60, "confirms", scene)
            await asyncio.to_thread(rabbit.kill if how == "killed" else rabbit.stop)
            await asyncio.to_thread(rabbit.start)
            assert await publisher.wait(patience=60) == 0, scene.log()
            await until_all_ended(scene, patience=60)
            await dismiss(scene, worker)
        await scene.judge()
        assert len(confirmed(scene)) > 60
        for handle in delayed:
            assert (await handle.status()).state == State.SUCCEEDED
            assert scene.count("begin", handle.id) == 1


async def test_a_broker_without_memory_takes_no_jobs_and_settles_those_it_has(
    tmp_path: Path, spawner: Spawner, rabbit: Node
) -> None:
    """Who publishes waits, for as long as the timeout says; afterwards all is as before."""
    async with scene_on(tmp_path, spawner, rabbit, publish_timeout=60) as scene:
        handles = [await scene.publish("slow", {"seconds": 0.5}) for _ in range(6 * SLOTS)]
        with scene.start("worker", concurrency=SLOTS) as worker, out_of_memory(rabbit):
            await scene.bq.queues.stats()  # asks the worker, which must not be stopped by it
            impatient = with_publish_timeout(scene, 1)
            with impatient.start("publisher", publish=batch(2, "quick")) as publisher:
                assert await publisher.wait() == 0, scene.log()
            assert len(confirmed(scene)) == len(handles)
            with scene.start("publisher", publish=batch(3, "quick", first=2000)) as publisher:
                await until_settled(scene, rabbit)
                more = [await scene.view(handle.id) for handle in handles]
                assert {view.state for view in more} == {State.SUCCEEDED}
                assert len(confirmed(scene)) == len(handles)
                await asyncio.to_thread(give_memory, rabbit)
                assert await publisher.wait() == 0, scene.log()
            assert len(confirmed(scene)) == len(handles) + 3
            await until_all_ended(scene)
            await dismiss(scene, worker)
        await scene.judge()


async def until_settled(scene: Scene, node: Node) -> None:
    """Wait until the broker itself has nothing left in the scene's queue, held or not."""
    lane = f"{scene.place.prefix}:{QUEUE}:"
    deadline = time.monotonic() + PATIENCE
    while True:
        listed = await asyncio.to_thread(node.ctl, "list_queues", "name", "messages")
        [line] = [each for each in listed.splitlines() if each.startswith(lane)]
        if line.split()[-1] == "0":
            return
        assert time.monotonic() < deadline, f"{line}\n{scene.log()}"


@contextmanager
def out_of_memory(node: Node) -> Generator[None]:
    """Have the broker believe that it has no memory left."""
    node.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        yield
    finally:
        give_memory(node)


def give_memory(node: Node) -> None:
    node.ctl("set_vm_memory_high_watermark", "0.4")
