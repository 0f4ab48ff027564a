"""The network between brokerq and PostgreSQL fails: cut, silent, refusing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from brokerq import State
from tests.failure.ledger import of
from tests.failure.on_postgres import scene_on
from tests.failure.on_rabbitmq import SLOTS, batch, confirmed, dismiss, until, until_all_ended
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.services.postgres_server import Server
from tests.services.proxy import TO_CLIENT, TO_SERVER, Proxy

pytestmark = pytest.mark.timeout(240)  # a server may take long to start on a busy machine


@pytest.fixture
def proxy(postgres: Server) -> Iterator[Proxy]:
    with Proxy(postgres.port) as proxy:
        yield proxy


async def test_a_cut_while_commits_or_their_answers_are_held_back_loses_and_repeats_nothing(
    tmp_path: Path, spawner: Spawner, postgres: Server, proxy: Proxy
) -> None:
    """What was not answered is unknown, or refused; each job runs at most once all the same."""
    jobs = batch(300, "quick", "threaded")
    async with scene_on(tmp_path, spawner, postgres, port=proxy.port) as scene:
        with scene.start("publisher", publish=jobs, together=20) as publisher:
            for part, held in enumerate((TO_CLIENT, TO_SERVER, TO_CLIENT), start=1):
                enough = part * 60
                await until(lambda: len(confirmed(scene)) >= enough, "confirms", scene)  # noqa: B023
                proxy.hold(held)
                await until(lambda: proxy.waiting(held) > 0, "bytes to be held", scene)  # noqa: B023
                assert proxy.cut() > 0
                proxy.resume()
            assert await publisher.wait() == 0, scene.log()
        assert of(scene.entries(), "unknown")
        await scene.finish(concurrency=20)
        story = await scene.judge()
        ran = [entry.more["n"] for entry in of(story.entries, "effect")]
        assert len(ran) == len(set(ran)) >= len(confirmed(scene))


async def test_cuts_while_jobs_run_neither_lose_nor_repeat_any(
    tmp_path: Path, spawner: Spawner, postgres: Server, proxy: Proxy
) -> None:
    async with scene_on(tmp_path, spawner, postgres, port=proxy.port) as scene:
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
            await until_all_ended(scene, patience=60)
            await dismiss(scene, worker)
        story = await scene.judge()
        began = of(story.entries, "begin")
        assert len(began) <= 30 + 2 + 2 + 3 + 1 + 4 * SLOTS


async def test_connections_that_end_while_they_are_idle_are_met_by_nobody(
    tmp_path: Path, spawner: Spawner, postgres: Server
) -> None:
    """By a restart, an administrator, a pooler: what comes next takes another one."""
    async with scene_on(tmp_path, spawner, postgres) as scene:
        for _ in range(5):
            await scene.publish("quick")
            postgres.run(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE application_name = 'brokerq'"
            )
        await scene.finish()
        await scene.judge()
        assert len(confirmed(scene)) == 5


async def test_a_worker_that_hears_nothing_any_more_loses_its_jobs_to_another_one(
    tmp_path: Path, spawner: Spawner, postgres: Server, proxy: Proxy
) -> None:
    """When their leases end; what it records too late counts for nothing."""
    async with scene_on(tmp_path, spawner, postgres, port=proxy.port) as scene:
        beside = replace(scene, place=replace(scene.place, url=straight(scene, proxy, postgres)))
        for _ in range(20):
            await scene.publish("slow", {"seconds": 0.3})
        with scene.start("worker", concurrency=SLOTS) as cut_off:
            await until(lambda: len(of(scene.entries(), "begin")) >= SLOTS, "a start", scene)
            proxy.drop()
            scene.faults += 1
            with beside.start("worker", concurrency=SLOTS) as other:
                await until_all_ended(scene, patience=60)
                proxy.resume()
                await dismiss(scene, other)
            late = await scene.publish("quick")
            assert (await late.wait(timeout="30s")).state == State.SUCCEEDED
            # A claim that took longer than a lease is not settled: its message comes once more.
            await until_all_ended(scene, patience=60)
            await dismiss(scene, cut_off)
        await scene.judge(slots=SLOTS)


def straight(scene: Scene, proxy: Proxy, server: Server) -> str:
    """Return the scene's URL without the proxy."""
    return scene.place.url.replace(f":{proxy.port}/", f":{server.port}/")
