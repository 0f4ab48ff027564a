"""A worker on SQS is killed, stands still for longer than its lease, or is asked to stop."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from brokerq import State
from brokerq.broker import QueueStats
from tests.failure.ledger import of
from tests.failure.on_rabbitmq import SLOTS, batch, confirmed, until
from tests.failure.on_sqs import scene_on
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.failure.test_zombie import outlive
from tests.services import sqs
from tests.services.sqs_double import SqsDouble
from tests.services.sqs_faults import RECEIVE

pytestmark = pytest.mark.timeout(sqs.INSTALLATION)


async def test_a_worker_that_stood_still_changes_nothing_whatever_its_verdict(
    tmp_path: Path, spawner: Spawner, endpoint: str
) -> None:
    """SQS would delete for it all the same: our own clock is what keeps it from asking."""
    await asyncio.gather(
        *(
            outlive(scene_on(tmp_path, spawner, endpoint), "after effect", wanted, runs=2)
            for wanted in ("ok", "fail", "reject", "snooze")
        )
    )


@pytest.mark.parametrize("point", ["after claim", "after finish"])
async def test_a_worker_that_stood_still_neither_begins_nor_settles_what_was_done_for_it(
    tmp_path: Path, spawner: Spawner, endpoint: str, point: str
) -> None:
    await outlive(scene_on(tmp_path, spawner, endpoint), point, "ok", runs=1)


async def test_standing_still_in_mid_poll_strands_no_message_for_ever(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble
) -> None:
    """What the poll was given meanwhile has lapsed when the worker goes on, and others have it."""
    async with scene_on(tmp_path, spawner, endpoint, double=double) as scene:
        with scene.start("worker", concurrency=SLOTS) as zombie:
            await until(lambda: double.calls[RECEIVE] >= 3, "a poll", scene)
            await zombie.stop()
            scene.faults, scene.stops = 1, 1
            handles = [await scene.publish("quick") for _ in range(10)]
            await scene.finish()
            zombie.resume()
            late = await scene.publish("quick")
            assert (await late.wait(timeout="20s")).state == State.SUCCEEDED
            zombie.terminate()
            assert await zombie.wait() == 0, scene.log()
        story = await scene.judge()
        assert len(of(story.entries, "begin")) == len(handles) + 1


async def test_after_a_clean_stop_all_that_is_left_is_there_at_once(
    tmp_path: Path, spawner: Spawner, endpoint: str
) -> None:
    """What was running and what was read ahead; stopped in mid-poll while more is published."""
    jobs = batch(60, "quick")
    async with scene_on(tmp_path, spawner, endpoint) as scene:
        for _ in range(SLOTS):
            await scene.publish("slow", {"seconds": 60})
        with scene.start("worker", concurrency=SLOTS, grace=0.5) as worker:
            await until(lambda: len(of(scene.entries(), "begin")) == SLOTS, "a start", scene)
            with scene.start("publisher", publish=jobs, together=10) as publisher:
                await until(lambda: len(confirmed(scene)) > SLOTS + 10, "confirms", scene)
                worker.terminate()
                assert await worker.wait() == 0, scene.log()
                assert (await stats(scene)).in_flight == 0
                assert await publisher.wait() == 0, scene.log()
        left = await stats(scene)
        assert (left.ready, left.in_flight) == (SLOTS + len(jobs), 0)


async def test_stopping_in_mid_poll_gives_back_what_the_poll_still_brings(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble
) -> None:
    async with scene_on(tmp_path, spawner, endpoint, double=double) as scene:
        with scene.start("worker", concurrency=SLOTS) as worker:
            for _ in range(2):
                polls = double.calls[RECEIVE]
                await until(lambda: double.calls[RECEIVE] > polls, "a poll", scene)  # noqa: B023
            worker.terminate()
            handles = [await scene.publish("quick") for _ in range(20)]
            assert await worker.wait() == 0, scene.log()
        assert (await stats(scene)).in_flight == 0
        await scene.finish()
        story = await scene.judge()
        assert len(of(story.entries, "begin")) == len(handles)


async def stats(scene: Scene) -> QueueStats:
    [found] = await scene.bq.queues.stats()
    return found


async def test_a_killed_worker_s_messages_come_again_after_their_lease(
    tmp_path: Path, spawner: Spawner, endpoint: str
) -> None:
    async with scene_on(tmp_path, spawner, endpoint) as scene:
        for _ in range(40):
            await scene.publish("slow", {"seconds": 0.5})
        for _ in range(2):
            with scene.start("worker", concurrency=SLOTS) as worker:
                begun = len(of(scene.entries(), "begin"))
                await until(
                    lambda: len(of(scene.entries(), "begin")) >= begun + SLOTS,  # noqa: B023
                    "jobs to begin",
                    scene,
                )
                worker.send(signal.SIGKILL)
                assert await worker.wait() == -signal.SIGKILL
            scene.faults += 1
        await scene.finish(concurrency=20)
        await scene.judge(slots=2 * SLOTS)
