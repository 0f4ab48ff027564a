"""The server's default is a stricter isolation, in which it refuses what meets another change."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.failure.ledger import of
from tests.failure.on_postgres import scene_on
from tests.failure.on_rabbitmq import SLOTS, batch, dismiss, until_all_ended
from tests.failure.processes import Spawner
from tests.failure.scene import Scene
from tests.services.postgres_server import Pooler, Server, own_server

pytestmark = pytest.mark.timeout(240)  # a server may take long to start on a busy machine

JOBS = ("quick", "flaky", "threaded", "snoozed", "hopeless", "dropped")
CODE = re.compile(r"^(40\w{3}) ERROR: ", re.MULTILINE)


@pytest.fixture(scope="module", params=["serializable", "repeatable read"])
def strict(request: pytest.FixtureRequest) -> Iterator[Server]:
    settings = {"default_transaction_isolation": request.param, "log_line_prefix": "%e "}
    with own_server(settings) as server:
        yield server


def refusals(server: Server) -> Counter[str]:
    """Return how often it has ended a transaction for the sake of another, by SQLSTATE."""
    output = (server.folder / "output").read_text("utf-8", "replace")
    return Counter(CODE.findall(output))


async def contend(scene: Scene, server: Server) -> None:
    """Let workers, publishers of the same keys and an administrator meet; no job is to notice."""
    same = batch(150, *JOBS)
    async with scene:
        with (
            scene.start("worker", concurrency=SLOTS) as worker,
            scene.start("worker", concurrency=SLOTS) as other,
            scene.start("publisher", publish=same, together=10) as publisher,
            scene.start("publisher", publish=same, together=15) as rival,
        ):
            while publisher.code is None or rival.code is None:
                await asyncio.to_thread(touch, server, scene.folder.name)
            assert (publisher.code, rival.code) == (0, 0), scene.log()
            await until_all_ended(scene, patience=60)
            await dismiss(scene, worker, other)
        story = await scene.judge()
        assert not of(story.entries, "refused"), scene.log()
        assert "met the same conflict" not in scene.log()


def touch(server: Server, schema: str) -> None:
    """Change rows that brokerq is about to change, and keep it waiting for a moment."""
    with suppress(psycopg.errors.DeadlockDetected), psycopg.connect(server.url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        update = f"UPDATE {schema}.jobs SET note = note WHERE ended_at IS NULL"  # noqa: S608
        connection.execute(update.encode())
        connection.execute("SELECT pg_sleep(0.05)")


async def test_transactions_of_brokerq_are_not_what_the_default_says(
    tmp_path: Path, spawner: Spawner, strict: Server
) -> None:
    before = refusals(strict)
    await contend(scene_on(tmp_path, spawner, strict), strict)
    assert (refusals(strict) - before)["40001"] == 0


async def test_what_cannot_be_serialized_behind_a_pooler_is_tried_again(
    tmp_path: Path, spawner: Spawner, strict: Server
) -> None:
    """A statement by itself has the default there, as nothing can be set for the session."""
    before = refusals(strict)
    with Pooler(strict.port, size=10) as pooler:
        through = {"pooler": "transaction"}
        scene = scene_on(tmp_path, spawner, strict, port=pooler.port, parameters=through)
        await contend(scene, strict)
    assert (refusals(strict) - before)["40001"] > 0
