"""The network between brokerq and RabbitMQ fails: cut, silent, slow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brokerq import State
from tests.failure.ledger import of
from tests.failure.on_rabbitmq import (
    SLOTS,
    batch,
    confirmed,
    dismiss,
    scene_on,
    through,
    until,
    until_all_ended,
)
from tests.failure.processes import Spawner
from tests.services.proxy import TO_CLIENT, TO_SERVER, Proxy
from tests.services.rabbitmq import Node

pytestmark = pytest.mark.timeout(240)  # a node may take long to start on a busy machine


@pytest.fixture
def proxy(rabbit: Node) -> Iterator[Proxy]:
    with Proxy(rabbit.port) as proxy:
        yield proxy


async def test_a_cut_while_publishes_or_confirms_are_held_back_loses_and_repeats_nothing(
    tmp_path: Path, spawner: Spawner, rabbit: Node, proxy: Proxy
) -> None:
    """The broker may have taken what was not confirmed; it is sent again under the same id."""
    jobs = batch(400, "quick", "threaded")
    async with scene_on(tmp_path, spawner, rabbit, proxy=proxy) as scene:
        with scene.start("publisher", publish=jobs, together=50) as publisher:
            for part, held in enumerate((TO_CLIENT, TO_SERVER, TO_CLIENT), start=1):
                enough = part * 60
                await until(lambda: len(confirmed(scene)) >= enough, "confirms", scene)  # noqa: B023
                proxy.hold(held)
                await until(lambda: proxy.waiting(held) > 0, "bytes to be held", scene)  # noqa: B023
                assert proxy.cut() > 0
                proxy.resume()
            assert await publisher.wait() == 0, scene.log()
        assert len(confirmed(scene)) == len(jobs), scene.log()
        await scene.finish(concurrency=20)
        story = await scene.judge()
        assert len(of(story.entries, "begin")) == len(of(story.entries, "effect")) == len(jobs)


async def test_a_confirm_that_never_comes_is_an_unknown_outcome(
    tmp_path: Path, spawner: Spawner, rabbit: Node, proxy: Proxy
) -> None:
    """It is neither a success nor a failure, and the job runs at most once."""
    jobs = batch(60, "quick")
    async with scene_on(tmp_path, spawner, rabbit, proxy=proxy, publish_timeout=1) as scene:
        with scene.start("publisher", publish=jobs, together=20) as publisher:
            await until(lambda: bool(confirmed(scene)), "a confirm", scene)
            proxy.hold(TO_CLIENT)
            await until(lambda: bool(of(scene.entries(), "unknown")), "one to be unknown", scene)
            proxy.resume()
            assert await publisher.wait() == 0, scene.log()
        assert not of(scene.entries(), "refused")
        await scene.finish(concurrency=20)
        story = await scene.judge()
        ran = [entry.more["n"] for entry in of(story.entries, "effect")]
        assert len(ran) == len(set(ran)) >= len(confirmed(scene))


async def test_cuts_while_jobs_run_neither_lose_nor_repeat_any(
    tmp_path: Path, spawner: Spawner, rabbit: Node, proxy: Proxy
) -> None:
    """What was held comes again, to the same worker: it knows what it has in hand."""
    async with scene_on(tmp_path, spawner, rabbit, proxy=proxy) as scene:
        for _ in range(30):
            await scene.publish("slow", {"seconds": 0.2})
        for job in ("flaky", "snoozed", "hopeless", "buried"):
            await scene.publish(job)
        with scene.start("worker", concurrency=SLOTS) as worker:
            for begun in (3, 12, 21, 30):
                await until(
                    lambda: len(of(scene.entries(), "begin")) >= begun,  # noqa: B023
                    "jobs to begin",
                    scene,
                )
                assert proxy.cut() > 0
            await until_all_ended(scene)
            await dismiss(scene, worker)
        await scene.judge()


async def test_a_peer_that_falls_silent_is_given_up_and_its_jobs_are_not_repeated(
    tmp_path: Path, spawner: Spawner, rabbit: Node, proxy: Proxy
) -> None:
    """One worker hears nothing any more; another one gets what it held, and not what it runs."""
    async with scene_on(tmp_path, spawner, rabbit, proxy=proxy, heartbeat=1) as scene:
        beside = through(scene, proxy.port, rabbit.port)
        handles = [await scene.publish("slow", {"seconds": 0.5}) for _ in range(30)]
        with scene.start("worker", concurrency=SLOTS) as cut_off:
            await until(lambda: len(of(scene.entries(), "begin")) >= SLOTS, "a start", scene)
            proxy.drop()
            with beside.start("worker", concurrency=SLOTS) as other:
                await until_all_ended(scene)
                await dismiss(scene, other)
            proxy.resume()
            late = await scene.publish("quick")
            assert (await late.wait(timeout="20s")).state == State.SUCCEEDED
            await dismiss(scene, cut_off)
        story = await scene.judge()
        begun = of(story.entries, "begin")
        assert len(begun) == len(handles) + 1, "each was run once"
        assert {entry.pid for entry in begun} == {cut_off.pid, other.pid}


async def test_a_slow_network_is_no_lost_one(
    tmp_path: Path, spawner: Spawner, rabbit: Node, proxy: Proxy
) -> None:
    """Heartbeats wait in the same line as jobs, and nobody gives up."""
    jobs = batch(80, "quick", "flaky")
    async with scene_on(tmp_path, spawner, rabbit, proxy=proxy, heartbeat=2) as scene:
        proxy.slow(25_000, TO_SERVER, TO_CLIENT)
        with (
            scene.start("publisher", publish=jobs, together=40) as publisher,
            scene.start("worker", concurrency=20) as worker,
        ):
            assert await publisher.wait() == 0, scene.log()
            await until_all_ended(scene)
            await dismiss(scene, worker)
        assert len(confirmed(scene)) == len(jobs)
        story = await scene.judge()
        assert len(of(story.entries, "begin")) == len(jobs) * 3 // 2
        assert "connection was lost" not in scene.log()
