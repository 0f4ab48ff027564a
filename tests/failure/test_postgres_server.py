"""PostgreSQL itself goes or is in the way: killed, restarted, full, locked, too slow."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest

from brokerq import State
from tests.failure.ledger import of
from tests.failure.on_postgres import scene_on
from tests.failure.on_rabbitmq import SLOTS, batch, confirmed, dismiss, until, until_all_ended
from tests.failure.processes import Spawner
from tests.services.postgres_server import Pooler, Server

pytestmark = pytest.mark.timeout(240)  # a server may take long to start on a busy machine

JOBS = ("quick", "flaky", "threaded", "snoozed", "hopeless", "dropped")
LONG_LEASE = 5.0
"""Longer than it takes to come back and be found again, which lets nobody run a job twice."""


@pytest.mark.parametrize("how", ["killed", "restarted"])
async def test_a_server_that_goes_under_load_loses_nothing(
    tmp_path: Path, spawner: Spawner, postgres: Server, *, how: str
) -> None:
    """Retries and delayed jobs too: some become due while it is away, none comes early."""
    jobs = batch(200, *JOBS)
    async with scene_on(tmp_path, spawner, postgres, lease=LONG_LEASE) as scene:
        delayed = [await scene.publish("quick", delay=f"{n}s") for n in (0.5, 1, 2, 3, 5)]
        with (
            scene.start("worker", concurrency=SLOTS) as worker,
            scene.start("worker", concurrency=SLOTS) as other,
            scene.start("publisher", publish=jobs, together=5) as publisher,
        ):
            await until(lambda: len(confirmed(scene)) >= 60, "confirms", scene)
            await asyncio.to_thread(postgres.kill if how == "killed" else postgres.stop)
            await asyncio.to_thread(postgres.start)
            assert await publisher.wait(patience=60) == 0, scene.log()
            await until_all_ended(scene, patience=60)
            await dismiss(scene, worker, other)
        await scene.judge()
        assert len(confirmed(scene)) > 60
        for handle in delayed:
            assert (await handle.status()).state == State.SUCCEEDED
            assert scene.count("begin", handle.id) == 1


async def test_a_server_without_connections_left_holds_up_and_loses_nothing(
    tmp_path: Path, spawner: Spawner, postgres: Server
) -> None:
    """The worker cannot open one more; what it has goes on, and publishing says what it needs."""
    async with scene_on(tmp_path, spawner, postgres) as scene:
        for _ in range(30):
            await scene.publish("slow", {"seconds": 0.2})
        with scene.start("worker", concurrency=SLOTS) as worker, ExitStack() as held:
            await until(lambda: bool(of(scene.entries(), "begin")), "a start", scene)
            take_all(postgres, held)
            with scene.start("publisher", publish=batch(2, "quick")) as refused:
                assert await refused.wait() != 0
            assert "has no connection left" in scene.log() or "cannot be reached" in scene.log()
            await until(lambda: len(of(scene.entries(), "end")) > 10, "jobs to go on", scene)
            held.close()
            with scene.start("publisher", publish=batch(20, *JOBS)) as publisher:
                assert await publisher.wait() == 0, scene.log()
            await until_all_ended(scene, patience=60)
            await dismiss(scene, worker)
        await scene.judge()
        assert len(confirmed(scene)) == 50


def take_all(server: Server, stack: ExitStack) -> None:
    """Take every connection that the server still gives."""

    def take_more() -> None:
        while True:
            stack.enter_context(psycopg.connect(server.url))

    with pytest.raises(psycopg.OperationalError, match=r"too many clients|are reserved"):
        take_more()


async def test_a_pool_of_one_connection_is_enough_for_everything(
    tmp_path: Path, spawner: Spawner, postgres: Server
) -> None:
    one = {"pool_size": "1"}
    async with scene_on(tmp_path, spawner, postgres, parameters=one) as scene:
        jobs = batch(100, *JOBS)
        with (
            scene.start("worker", concurrency=20) as worker,
            scene.start("publisher", publish=jobs, together=50) as publisher,
        ):
            assert await publisher.wait() == 0, scene.log()
            await until_all_ended(scene, patience=60)
            await dismiss(scene, worker)
        await scene.judge()
        assert len(confirmed(scene)) == len(jobs)


async def test_a_lock_that_outlasts_every_timeout_delays_and_loses_nothing(
    tmp_path: Path, spawner: Spawner, postgres: Server
) -> None:
    """Somebody holds the tables; statements are given up, one after the other, and tried again."""
    quick = {"statement_timeout": "300ms", "lock_timeout": "200ms"}
    async with scene_on(tmp_path, spawner, postgres, parameters=quick) as scene:
        for _ in range(40):
            await scene.publish("slow", {"seconds": 0.05})
        for job in JOBS:
            await scene.publish(job)
        with scene.start("worker", concurrency=SLOTS) as worker:
            for enough, table in ((5, "jobs"), (20, "messages"), (35, "jobs")):
                await until(
                    lambda: len(of(scene.entries(), "end")) >= enough,  # noqa: B023
                    "jobs to end",
                    scene,
                )
                schema = scene.folder.name
                with psycopg.connect(postgres.url) as connection:
                    connection.execute(f"LOCK {schema}.{table}".encode())
                    with scene.start("publisher", publish=batch(1, "quick")) as publisher:
                        await publisher.wait()
            assert of(scene.entries(), "refused")
            await until_all_ended(scene, patience=60)
            await dismiss(scene, worker)
        assert "is locked by somebody else" in scene.log()
        await scene.judge()


async def test_deadlocks_and_lost_races_are_tried_again(
    tmp_path: Path, spawner: Spawner, postgres: Server
) -> None:
    """Workers, publishers of the same keys and an administrator's locks in the wrong order."""
    async with scene_on(tmp_path, spawner, postgres) as scene:
        schema = scene.folder.name
        postgres.run("ALTER SYSTEM SET deadlock_timeout = '50ms'")
        postgres.run("SELECT pg_reload_conf()")
        same = batch(150, "threaded", "flaky")
        with (
            scene.start("worker", concurrency=SLOTS) as worker,
            scene.start("worker", concurrency=SLOTS) as other,
            scene.start("publisher", publish=same, together=10) as publisher,
            scene.start("publisher", publish=same, together=15) as rival,
        ):
            while publisher.code is None or rival.code is None:
                await asyncio.to_thread(cross, postgres, schema)
            assert (publisher.code, rival.code) == (0, 0), scene.log()
            await until_all_ended(scene, patience=60)
            await dismiss(scene, worker, other)
        story = await scene.judge()
        assert not of(story.entries, "refused"), scene.log()


def cross(server: Server, schema: str) -> None:
    """Lock rows in another order than brokerq does."""
    with suppress(psycopg.OperationalError), psycopg.connect(server.url) as connection:
        connection.execute("SET deadlock_timeout = '1h'")  # the other one is to give way
        connection.execute("SET statement_timeout = '2s'")
        for order in ("DESC", "ASC"):
            statement = f"""
                    SELECT FROM {schema}.jobs WHERE ended_at IS NULL
                    ORDER BY id {order} LIMIT 3 FOR UPDATE
                """
            connection.execute(statement.encode())


@pytest.mark.parametrize("size", [1, 4])
async def test_a_pooler_with_few_connections_in_between_changes_nothing(
    tmp_path: Path, spawner: Spawner, postgres: Server, *, size: int
) -> None:
    """In transaction mode, and it is killed and comes back meanwhile."""
    jobs = batch(200, *JOBS)
    with Pooler(postgres.port, size=size) as pooler:
        through = {"pooler": "transaction"}
        async with scene_on(
            tmp_path, spawner, postgres, port=pooler.port, parameters=through, lease=LONG_LEASE
        ) as scene:
            with (
                scene.start("worker", concurrency=SLOTS) as worker,
                scene.start("worker", concurrency=SLOTS) as other,
                scene.start("publisher", publish=jobs, together=10) as publisher,
            ):
                await until(lambda: len(confirmed(scene)) >= 60, "confirms", scene)
                await asyncio.to_thread(pooler.kill)
                await asyncio.to_thread(pooler.start)
                assert await publisher.wait(patience=60) == 0, scene.log()
                await until_all_ended(scene, patience=60)
                await dismiss(scene, worker, other)
            await scene.judge()
            assert len(confirmed(scene)) > 60
