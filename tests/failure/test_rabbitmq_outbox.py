"""What is sold in a store's transaction and waits for RabbitMQ: relays are killed, RabbitMQ goes.

The store is a SQLite file, or a PostgreSQL database.
"""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from tests.failure.jobs import QUEUE
from tests.failure.ledger import of
from tests.failure.on_postgres import QUICK_TO_SEE
from tests.failure.on_rabbitmq import batch, dismiss, scene_on, until_all_ended
from tests.failure.on_rabbitmq import until as until_in
from tests.failure.orders import Orders
from tests.failure.processes import LOOK, PATIENCE, Spawner, until
from tests.failure.scene import Scene
from tests.failure.spec import Fault
from tests.services.postgres import with_parameters
from tests.services.postgres_server import Server
from tests.services.rabbitmq import Node

pytestmark = pytest.mark.timeout(240)  # a node may take long to start on a busy machine

Make = Callable[[], Scene]


@pytest.fixture(params=["sqlite", "postgresql"])
def make(
    request: pytest.FixtureRequest, tmp_path: Path, spawner: Spawner, rabbit: Node
) -> Callable[[], Scene]:
    """Return what makes a scene on RabbitMQ with a store of its own."""
    if request.param == "sqlite":
        return lambda: scene_on(tmp_path, spawner, rabbit, publish_timeout=1)
    server: Server = request.getfixturevalue("postgres")

    def in_schema() -> Scene:
        schema = f"failure_{uuid.uuid4().hex[:8]}"
        url = with_parameters(server.url, **QUICK_TO_SEE, schema=schema)
        return scene_on(tmp_path, spawner, rabbit, publish_timeout=1, store_url=url)

    return in_schema


async def sell(scene: Scene, count: int) -> None:
    """Sell and publish in a process that does nothing else; all of it then waits in the outbox."""
    with scene.start("seller", publish=batch(count, "quick")) as seller:
        assert await seller.wait() == 0, scene.log()
    backlog = await scene.bq.queues.outbox()
    assert backlog is not None
    assert backlog.waiting == count


async def until_it_has(scene: Scene, count: int) -> None:
    """Wait until the broker itself has so many messages ready."""
    deadline = time.monotonic() + PATIENCE
    while True:
        [stats] = await scene.bq.queues.stats([QUEUE])
        if stats.ready == count:
            return
        assert time.monotonic() < deadline, f"{stats}, and not {count}\n{scene.log()}"
        await asyncio.sleep(LOOK)


async def judge_sold(scene: Scene, count: int) -> None:
    """Each order has its effect, once."""
    story = await scene.judge()
    numbers = [1000 + n for n in range(count)]
    assert sorted(entry.more["n"] for entry in of(story.entries, "effect")) == numbers
    assert orders_of(scene).read() == numbers


def orders_of(scene: Scene) -> Orders:
    assert scene.place.store_url is not None
    return Orders(scene.place.store_url)


@pytest.mark.parametrize(
    ("points", "copies"),
    [
        (["before take", "after take", "before publish", "after sent"], 1),
        (["after publish", "before sent"], 2),
    ],
    ids=["once", "twice"],
)
async def test_a_killed_relay_s_messages_are_published_at_least_once_and_run_once(
    make: Make, *, points: Sequence[str], copies: int
) -> None:
    """Twice where it died between the broker's confirmation and the removal."""

    async def kill(point: str) -> None:
        async with make() as scene:
            await sell(scene, 5)
            await scene.killed("relay", Fault(point=point), burst=True)
            with scene.start("relay", burst=True) as relay:
                assert await relay.wait() == 0, scene.log()
            await until_it_has(scene, 5 * copies)
            await scene.finish()
            await judge_sold(scene, 5)

    await asyncio.gather(*map(kill, points))


async def test_a_relay_that_stood_still_and_one_that_took_over_run_nothing_twice(
    make: Make,
) -> None:
    async with make() as scene:
        await sell(scene, 10)
        fault = Fault(point="after publish", signal=signal.SIGSTOP)
        with scene.start("relay", fault=fault, burst=True) as stuck:
            await until(stuck.is_stopped, "the relay to stop")
            scene.faults += 1
            with scene.start("relay", burst=True) as other:
                assert await other.wait() == 0, scene.log()
            stuck.resume()
            assert await stuck.wait() == 0, scene.log()
        await until_it_has(scene, 20)
        await scene.finish()
        await judge_sold(scene, 10)


async def test_what_is_sold_while_rabbitmq_is_away_waits_with_an_alarm(
    make: Make, rabbit: Node
) -> None:
    async with make() as scene:
        await sell(scene, 5)
        with scene.start("worker") as worker:
            await until_all_ended(scene)
            await asyncio.to_thread(rabbit.kill)
            await sell_here(scene, range(1005, 1030))
            late = "the outbox is late: 25 messages"
            await until_in(lambda: late in scene.log(), "the alarm", scene)
            backlog = await scene.bq.queues.outbox()
            assert backlog is not None
            assert (backlog.waiting, backlog.due) == (25, 25)
            await asyncio.to_thread(rabbit.start)
            await until_all_ended(scene, patience=90)
            await dismiss(scene, worker)
        await judge_sold(scene, 30)


async def sell_here(scene: Scene, numbers: Iterable[int]) -> None:
    """Sell and publish with the app of this process, which is open, all in one transaction."""
    with orders_of(scene).connect() as db:
        sold: list[tuple[int, str]] = []
        for n in numbers:
            scene.ledger.write("attempted", n=n)
            orders_of(scene).add(db, n)
            handle = await scene.bq.publish("quick", {"n": n}, connection=db)
            sold.append((n, handle.id))
        db.commit()
    for n, job_id in sold:
        scene.ledger.write("confirmed", n=n, id=job_id)
