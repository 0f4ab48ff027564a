"""Statements run into `statement_timeout`: tables are locked, or as slow as very large ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.failure.ledger import of
from tests.failure.on_postgres import scene_on
from tests.failure.on_rabbitmq import SLOTS, batch, confirmed, dismiss, until, until_all_ended
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.services.postgres_server import Pooler, Server, own_server

pytestmark = pytest.mark.timeout(240)  # a server may take long to start on a busy machine

JOBS = ("quick", "flaky", "threaded", "snoozed", "hopeless", "dropped")
SHORT = "1s"  # long enough for what nothing hinders
TOLD = "took too long for a statement"
SLEEP = """
CREATE FUNCTION {schema}.dawdle() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END'
"""
TRIGGER = """
CREATE TRIGGER dawdle AFTER INSERT OR UPDATE ON {schema}.messages
FOR EACH STATEMENT EXECUTE FUNCTION {schema}.dawdle()
"""

Hindrance = Callable[[Server, str], AbstractContextManager[None]]


def locked(table: str) -> Hindrance:
    """Have somebody hold a table."""

    @contextmanager
    def hinder(server: Server, schema: str) -> Generator[None]:
        with server.administrator() as connection:
            connection.execute(f"LOCK {schema}.{table}".encode())
            yield

    return hinder


@contextmanager
def dawdling(server: Server, schema: str) -> Generator[None]:
    """Have each statement that puts messages in, or claims some, take a minute."""
    for statement in (SLEEP, TRIGGER):
        server.run(statement.replace("{schema}", schema))
    try:
        yield
    finally:
        server.run(f"DROP FUNCTION {schema}.dawdle CASCADE")


HINDRANCES = {
    "jobs locked": locked("jobs"),
    "messages locked": locked("messages"),
    "messages slow": dawdling,
}


async def survive(scene: Scene, server: Server, hinder: Hindrance) -> None:
    """Publish and work before, during and after; what is refused meanwhile is told so."""
    async with scene:
        for _ in range(20):
            await scene.publish("slow", {"seconds": 0.05})
        for job in JOBS:
            await scene.publish(job)
        with scene.start("worker", concurrency=SLOTS) as worker:
            await until(lambda: len(of(scene.entries(), "end")) >= 5, "jobs to end", scene)
            scene.faults += 1  # what is in hand may come back
            with hinder(server, scene.folder.name):
                with scene.start("publisher", publish=batch(3, "quick")) as publisher:
                    assert await publisher.wait() == 0, scene.log()
                await until(lambda: TOLD in scene.log(), "the worker to be told", scene)
            with scene.start("publisher", publish=batch(5, "quick", first=2000)) as publisher:
                assert await publisher.wait() == 0, scene.log()
            await until_all_ended(scene, patience=60)
            await dismiss(scene, worker)
        story = await scene.judge(slots=SLOTS)
        refused = of(story.entries, "refused")
        assert [entry.more["n"] for entry in refused] == [1000, 1001, 1002], scene.log()
        assert all(TOLD in entry.more["error"] for entry in refused)
        assert not of(story.entries, "unknown")
        assert len(confirmed(scene)) == 20 + len(JOBS) + 5


@pytest.mark.parametrize("name", HINDRANCES)
async def test_statements_that_take_too_long_are_refused_and_nothing_is_lost(
    tmp_path: Path, spawner: Spawner, postgres: Server, *, name: str
) -> None:
    quick = {"statement_timeout": SHORT}
    scene = scene_on(tmp_path, spawner, postgres, parameters=quick)
    await survive(scene, postgres, HINDRANCES[name])


@pytest.fixture(scope="module")
def hasty() -> Iterator[Server]:
    """Yield a server that gives nobody much time, unless they ask for more."""
    with own_server({"statement_timeout": SHORT}) as server:
        yield server


@pytest.mark.parametrize("name", ["messages locked", "messages slow"])
async def test_the_server_s_own_timeout_counts_behind_a_pooler(
    tmp_path: Path, spawner: Spawner, hasty: Server, *, name: str
) -> None:
    """Of a statement by itself, as nothing can be set for the session."""
    with Pooler(hasty.port, size=10) as pooler:
        through = {"pooler": "transaction"}
        scene = scene_on(tmp_path, spawner, hasty, port=pooler.port, parameters=through)
        await survive(scene, hasty, HINDRANCES[name])


async def test_the_server_s_own_timeout_does_not_count_where_the_url_s_can_be_set(
    tmp_path: Path, spawner: Spawner, hasty: Server
) -> None:
    async with scene_on(tmp_path, spawner, hasty) as scene:
        with scene.start("worker", concurrency=SLOTS) as worker:
            with locked("messages")(hasty, scene.folder.name):
                late = asyncio.create_task(scene.publish("quick"))
                await asyncio.sleep(1.5)  # longer than the server's timeout
                assert not late.done()
            await late
            await until_all_ended(scene)
            await dismiss(scene, worker)
        assert TOLD not in scene.log()
        await scene.judge()
