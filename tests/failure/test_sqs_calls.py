"""Calls of SQS fail in every way that AWS documents, and in some that networks have."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokerq_sqs.wire import BATCH

from brokerq import State
from tests.failure import spec
from tests.failure.ledger import of
from tests.failure.on_rabbitmq import SLOTS, batch, confirmed, dismiss, until, until_all_ended
from tests.failure.on_sqs import LEASE, scene_on
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.services import sqs
from tests.services.sqs_double import SqsDouble
from tests.services.sqs_faults import (
    CHANGE,
    DELETE,
    RECEIVE,
    SEND,
    Fault,
    broken,
    broken_after,
    cut,
    cut_after,
    cut_within,
    expired,
    ignored,
    late,
    partly,
    partly_told,
    silent,
    silent_after,
    skewed,
    slow,
    throttled,
)

pytestmark = pytest.mark.timeout(sqs.INSTALLATION)
WHOLE = (throttled, broken, broken_after, cut, cut_after, cut_within)
PARTIAL = (partly, partly_told)


async def test_whatever_happens_to_sends_each_job_is_confirmed_and_run_once(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble
) -> None:
    """What may have been taken is sent again under the same id, and recognised."""
    jobs = batch(120, "quick", "threaded")
    async with scene_on(tmp_path, spawner, endpoint, double=double) as scene:
        for fault in (*WHOLE, *PARTIAL):
            double.arrange(fault, SEND, times=3)
        with scene.start("publisher", publish=jobs, together=20) as publisher:
            assert await publisher.wait() == 0, scene.log()
        assert len(confirmed(scene)) == len(jobs), scene.log()
        assert {fault.__name__ for fault in (*WHOLE, *PARTIAL)} <= double.strikes.keys()
        await scene.finish(concurrency=20)
        await judge_once(scene, len(jobs))


async def judge_once(scene: Scene, runs: int) -> None:
    """Judge, where no process was killed: so often, and no more, handlers ran."""
    story = await scene.judge()
    assert len(of(story.entries, "begin")) == runs


async def test_whatever_happens_to_a_worker_s_calls_each_job_has_one_end(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble
) -> None:
    """Also to what follows a job: retries, and dead letters, which are sent before the delete."""
    async with scene_on(tmp_path, spawner, endpoint, double=double) as scene:
        for _ in range(30):
            await scene.publish("slow", {"seconds": 0.2})
        for job in ("flaky", "snoozed", "hopeless", "buried"):
            await scene.publish(job)
        for fault in (*WHOLE, *PARTIAL):
            actions = (
                [SEND, DELETE, CHANGE] if fault in PARTIAL else [SEND, DELETE, CHANGE, RECEIVE]
            )
            for action in actions:
                double.arrange(fault, action, every=2)
        with scene.start("worker", concurrency=SLOTS) as worker:
            await until_all_ended(scene, patience=60)
            await dismiss(scene, worker)
        await judge_once(scene, 30 + 2 + 2 + 3 + 1)
        assert {fault.__name__ for fault in (*WHOLE, *PARTIAL)} <= double.strikes.keys()


async def test_a_dead_letter_that_cannot_be_sent_keeps_its_message(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble
) -> None:
    """It comes again, and its recorded end is carried out then."""
    async with scene_on(tmp_path, spawner, endpoint, double=double, call_timeout=0.5) as scene:
        for _ in range(3):
            await scene.publish("buried")
        double.arrange(broken, SEND, times=None)
        with scene.start("worker", concurrency=SLOTS) as worker:
            await until(lambda: "could not send" in scene.log(), "settling to be given up", scene)
            double.heal()
            await until_all_ended(scene)
            await dismiss(scene, worker)
        await judge_once(scene, 3)


async def test_who_never_answers_holds_nobody_up_for_ever(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble
) -> None:
    async with scene_on(tmp_path, spawner, endpoint, double=double, call_timeout=1) as scene:
        for fault in (silent, silent_after):
            for action in (SEND, RECEIVE, DELETE, CHANGE):
                double.arrange(fault, action)
        jobs = batch(20, "quick", "flaky")
        with (
            scene.start("worker", concurrency=SLOTS) as worker,
            scene.start("publisher", publish=jobs, together=20) as publisher,
        ):
            assert await publisher.wait() == 0, scene.log()
            await until_all_ended(scene, patience=60)
            await dismiss(scene, worker)
        assert len(confirmed(scene)) == len(jobs)
        await judge_once(scene, 30)
        assert double.strikes["silent"] + double.strikes["silent_after"] >= 6


@pytest.mark.parametrize(
    ("fault", "told", "ran"),
    [(silent_after, "unknown", 10), (cut, "unknown", 0), (throttled, "refused", 0)],
)
async def test_a_publish_that_never_succeeds_says_what_is_known(
    tmp_path: Path,
    spawner: Spawner,
    endpoint: str,
    double: SqsDouble,
    *,
    fault: Fault,
    told: str,
    ran: int,
) -> None:
    """A server that asks for patience has taken nothing; one that falls silent may have."""
    jobs = batch(10, "quick")
    async with scene_on(tmp_path, spawner, endpoint, double=double, call_timeout=0.5) as scene:
        double.arrange(fault, SEND, times=None)
        with scene.start("publisher", publish=jobs, together=10) as publisher:
            assert await publisher.wait() == 0, scene.log()
        assert [e.kind for e in scene.entries() if e.kind != "attempted"] == [told] * len(jobs)
        double.heal()
        await scene.finish()
        await judge_once(scene, ran)


async def test_a_message_that_is_delivered_twice_is_run_once(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble
) -> None:
    """To the same worker or another one, while the job runs or when it has ended."""
    async with scene_on(tmp_path, spawner, endpoint, double=double) as scene:
        handles = [await scene.publish("slow", {"seconds": 0.3}) for _ in range(40)]
        handles += [await scene.publish("flaky") for _ in range(10)]
        double.deliver_twice(60)
        with (
            scene.start("worker", concurrency=SLOTS) as worker,
            scene.start("worker", concurrency=SLOTS) as other,
        ):
            await until_all_ended(scene)
            await dismiss(scene, worker, other)
        assert double.strikes["twice"] >= len(handles)
        await judge_once(scene, 40 + 2 * 10)


async def test_without_a_store_nothing_is_lost_and_duplicates_are_as_many_as_deliveries(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble
) -> None:
    """One call that deletes nothing repeats ten jobs at most, a killed worker what it ran."""
    jobs = batch(40, "quick")
    async with scene_on(tmp_path, spawner, endpoint, double=double, store=False) as scene:
        with scene.start("publisher", publish=jobs, together=10) as publisher:
            assert await publisher.wait() == 0, scene.log()
        double.deliver_twice(20)
        double.arrange(ignored, DELETE)
        kill = spec.Fault(point="after effect", nth=25)
        await scene.killed("worker", kill, concurrency=SLOTS)
        await scene.finish(concurrency=SLOTS)
        ids = [entry.more["id"] for entry in confirmed(scene)]
        runs = [entry.job_id for entry in of(scene.entries(), "effect")]
        assert set(runs) == set(ids)
        assert len(ids) == len(jobs)
        assert len(runs) <= len(jobs) + double.strikes["twice"] + BATCH + kill.nth
        [stats] = await scene.bq.queues.stats()
        assert (stats.ready, stats.in_flight, stats.dead) == (0, 0, 0)


@pytest.mark.parametrize("fault", [ignored, expired])
async def test_what_is_not_deleted_comes_again_and_is_not_run_again(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble, *, fault: Fault
) -> None:
    """As with an old handle: SQS says that all is well, and keeps the message."""
    async with scene_on(tmp_path, spawner, endpoint, double=double) as scene:
        for _ in range(20):
            await scene.publish("quick")
        double.arrange(fault, DELETE, times=4)
        with scene.start("worker", concurrency=SLOTS) as worker:
            await until_all_ended(scene)
            await dismiss(scene, worker)
        assert double.strikes[fault.__name__] == 4
        await judge_once(scene, 20)


@pytest.mark.parametrize("fault", [ignored, expired, late(LEASE), slow(LEASE)])
async def test_a_heartbeat_that_comes_too_late_costs_no_second_run(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble, *, fault: Fault
) -> None:
    """SQS gives the message to another worker, and the record says whose the job is."""
    async with scene_on(tmp_path, spawner, endpoint, double=double) as scene:
        handles = [await scene.publish("slow", {"seconds": 1.5 * LEASE}) for _ in range(SLOTS)]
        double.arrange(fault, CHANGE, times=2)
        with scene.start("worker", concurrency=SLOTS) as worker:
            await until(lambda: len(of(scene.entries(), "begin")) == SLOTS, "a start", scene)
            with scene.start("worker", concurrency=SLOTS) as other:
                await until_all_ended(scene)
                await dismiss(scene, worker, other)
        assert double.strikes[fault.__name__] == 2
        assert {(await handle.status()).state for handle in handles} == {State.SUCCEEDED}
        await judge_once(scene, SLOTS)


async def test_what_arrives_after_its_lease_is_not_begun(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble
) -> None:
    """The lease counts from before the poll, by our own clock: who knows where the time went."""
    async with scene_on(tmp_path, spawner, endpoint, double=double) as scene:
        for _ in range(10):
            await scene.publish("quick")
        double.arrange(late(LEASE + 0.5), RECEIVE)
        double.arrange(throttled, RECEIVE, times=3)  # so that nothing else is received just then
        with scene.start("worker", concurrency=SLOTS) as worker:
            await until(lambda: double.strikes["throttled"] == 3, "polls", scene)
            assert not of(scene.entries(), "begin")
            await until_all_ended(scene)
            await dismiss(scene, worker)
        await judge_once(scene, 10)


async def test_a_clock_that_is_set_right_again_is_enough(
    tmp_path: Path, spawner: Spawner, endpoint: str, double: SqsDouble
) -> None:
    """AWS refuses requests that are dated wrongly; nothing is lost, and nobody has to restart."""
    async with scene_on(tmp_path, spawner, endpoint, double=double) as scene:
        await scene.publish("quick")
        double.arrange(skewed, SEND, times=2)
        double.arrange(skewed, RECEIVE, times=3)
        jobs = batch(2, "quick")
        with (
            scene.start("publisher", publish=jobs) as publisher,
            scene.start("worker", concurrency=SLOTS) as worker,
        ):
            assert await publisher.wait() == 0, scene.log()
            await until_all_ended(scene)
            await dismiss(scene, worker)
        refusals = of(scene.entries(), "refused")
        assert len(refusals) == len(jobs)
        assert all("clock" in entry.more["error"] for entry in refusals)
        await judge_once(scene, 1)
