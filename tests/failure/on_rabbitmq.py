"""Scenes whose broker is RabbitMQ, with records in SQLite, and a network that can fail between."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from brokerq import State
from brokerq.record import ENDED
from brokerq.store import JobFilter
from tests.failure.jobs import QUEUE, Scribe, build_app
from tests.failure.ledger import Entry, Ledger, of
from tests.failure.processes import LOOK, PATIENCE, Process, Spawner
from tests.failure.scene import Scene
from tests.failure.spec import Place, Publish
from tests.services.proxy import Proxy
from tests.services.rabbitmq import Node

LIVE = [state for state in State if state not in {*ENDED, State.RESERVED}]
SLOTS = 5


def scene_on(
    folder: Path,
    spawner: Spawner,
    node: Node,
    *,
    proxy: Proxy | None = None,
    heartbeat: int = 15,
    publish_timeout: float = 10,
    store_url: str | None = None,
) -> Scene:
    """Make a scene on the node; its processes go through the proxy, its own client does not.

    Its records are in a SQLite file of its own, or where `store_url` says.
    """
    name = uuid.uuid4().hex[:8]
    folder = folder / name
    folder.mkdir()

    place = Place(
        url=f"{node.url}?heartbeat={heartbeat}s&connect_timeout=2s"
        f"&publish_timeout={publish_timeout}s",
        store_url=store_url or f"sqlite:///{folder}/records.db",
        prefix=f"failure-{name}",
        ledger=str(folder / "ledger.jsonl"),
    )
    ledger = Ledger(place.ledger)
    bq = build_app(place, Scribe(ledger=ledger))
    scene = Scene(spawner=spawner, place=place, folder=folder, bq=bq, ledger=ledger)
    return scene if proxy is None else through(scene, node.port, proxy.port)


def through(scene: Scene, old: int, new: int) -> Scene:
    """Return the same scene for processes that go to another port."""
    return _with_url(scene, scene.place.url.replace(f":{old}/", f":{new}/"))


def with_publish_timeout(scene: Scene, seconds: float) -> Scene:
    """Return the same scene for processes that wait so long for a confirm."""
    url = re.sub(r"publish_timeout=[0-9.]+s", f"publish_timeout={seconds}s", scene.place.url)
    return _with_url(scene, url)


def _with_url(scene: Scene, url: str) -> Scene:
    return replace(scene, place=replace(scene.place, url=url))


def batch(count: int, *jobs: str, first: int = 1000) -> tuple[Publish, ...]:
    """Return what a publisher is to publish: these jobs in turn."""
    return tuple((jobs[n % len(jobs)], {"n": first + n}, None) for n in range(count))


def confirmed(scene: Scene) -> list[Entry]:
    """Return what publishers were told is safe."""
    return of(scene.entries(), "confirmed")


async def until(condition: Callable[[], bool], what: str, scene: Scene) -> None:
    """Wait until the condition holds; say what the processes said when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}\n{scene.log()}"
        await asyncio.sleep(LOOK)


async def until_all_ended(scene: Scene, patience: float = PATIENCE) -> None:
    """Wait until every job that is known of has ended, and nothing is in the queue."""
    deadline = time.monotonic() + patience
    live = JobFilter(states=LIVE)
    while True:
        left: Sequence[Any] = await scene.bq.jobs.search(live, limit=5)
        [stats] = await scene.bq.queues.stats([QUEUE])
        if not (left or stats.ready or stats.in_flight or stats.delayed):
            return
        assert time.monotonic() < deadline, f"{left}\n{stats}\n{scene.log()}"
        await asyncio.sleep(LOOK)


async def dismiss(scene: Scene, *workers: Process) -> None:
    """Ask the workers to stop; they must give nothing up."""
    for worker in workers:
        worker.terminate()
    for worker in workers:
        assert await worker.wait() == 0, scene.log()
