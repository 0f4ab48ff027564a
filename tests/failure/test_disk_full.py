"""The disk is full: what was confirmed is kept, what was refused is not there, and work goes on."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from brokerq import State
from brokerq.errors import PublishError, StorageError
from tests.failure.ledger import of
from tests.failure.processes import Spawner, until
from tests.failure.roles import ABANDONED
from tests.failure.scene import Scene
from tests.services.availability import require_service

SIZE = 4 * 1024 * 1024
PAGES = 60


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield the folder of a file system that is soon full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    mounted = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if mounted.returncode:
        require_service("a small disk", f"only root may mount one: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as ballast:
        try:
            while ballast.write(bytes(4096)):
                pass
        except OSError:
            return


async def test_a_full_disk_loses_nothing_and_is_survived(
    small_disk: Path, tmp_path: Path, spawner: Spawner
) -> None:
    ballast = small_disk / "ballast"
    async with Scene.at(tmp_path, spawner, disk=small_disk) as scene:
        with scene.start("worker", concurrency=2) as worker:
            for _ in range(20):
                await scene.publish("slow", {"seconds": 0.2})
            await asyncio.to_thread(fill, ballast)
            refused = await publish_until_refused(scene)
            assert "disk is full" in refused or "cannot grow" in refused
            await asyncio.sleep(2.5)  # the fault goes on for longer than two leases
            assert worker.code is None, scene.log()
            ballast.unlink()
            await scene.until_empty()
            worker.terminate()
            assert await worker.wait() == 0, scene.log()
        story = await scene.judge()
        confirmed = [entry.more["id"] for entry in of(story.entries, "confirmed")]
        views = [story.views[job_id] for job_id in confirmed]
        assert all(view is not None and view.state == State.SUCCEEDED for view in views)
        assert all(view is not None and view.crashes == 0 for view in views)


async def publish_until_refused(scene: Scene) -> str:
    """Publish until the disk is too full; return what the error says."""
    for _ in range(2000):
        try:
            await scene.publish("quick", headers={"padding": "x" * 1000})
        except (PublishError, StorageError) as exc:
            scene.ledger.write("refused", n=scene.published - 1, error=str(exc))
            return str(exc)
    pytest.fail("the disk never was full")


async def test_a_full_file_keeps_what_was_confirmed(tmp_path: Path, spawner: Spawner) -> None:
    """As above where nobody may mount a disk: SQLite refuses to let the file grow."""
    async with Scene.at(tmp_path, spawner) as scene:
        free, scene.place = scene.place, replace(scene.place, max_pages=PAGES)
        jobs = tuple(("quick", {"n": n}, None) for n in range(300))
        with scene.start("publisher", publish=jobs) as publisher:
            assert await publisher.wait() == 0, scene.log()
        assert of(scene.entries(), "refused")
        with scene.start("worker") as worker:
            await until(lambda: "cannot grow" in scene.log(), "the worker to be refused")
            worker.terminate()
            assert await worker.wait() in {0, ABANDONED}, scene.log()
        scene.place = free
        scene.faults += 1
        await scene.finish()
        story = await scene.judge()
        views = [view for view in story.views.values() if view is not None]
        assert {view.state for view in views} == {State.SUCCEEDED}
