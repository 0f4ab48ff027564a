"""Kills, stops, restarts and duplicates by a seeded schedule, with several workers.

`make chaos` runs it for long, with a seed of its own that it prints; `BROKERQ_CHAOS_SEED` repeats
the schedule (not the scheduling of the machine), `BROKERQ_CHAOS_SECONDS` sets the length.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from brokerq import CancelAnswer, JobFilter, JobView, LetterFilter, State
from brokerq.errors import OUTAGE
from tests.failure.checks import Story
from tests.failure.ledger import of
from tests.failure.processes import Process, Spawner
from tests.failure.roles import INTERRUPTED, UNREACHABLE
from tests.failure.scene import Scene
from tests.failure.spec import Fault, Publish

WORKERS = 3
SLOTS = 5
BATCH = 25
ENDS = {
    "quick": State.SUCCEEDED,
    "threaded": State.SUCCEEDED,
    "flaky": State.SUCCEEDED,
    "snoozed": State.SUCCEEDED,
    "slow": State.SUCCEEDED,
    "hopeless": State.DEAD,
    "buried": State.DEAD,
    "dropped": State.SKIPPED,
}
POINTS = [
    f"{side} {call}"
    for call in ("claim", "finish", "settle", "receive", "extend", "renew")
    for side in ("before", "after")
] + ["after effect", "after follow_up"]


class Chaos:
    """The schedule and what it has done so far.

    Attributes:
        codes: How a worker may exit.
        together: How many jobs a publisher publishes at a time.
    """

    together = 1
    codes = frozenset({0, INTERRUPTED, -signal.SIGKILL})

    def __init__(self, scene: Scene, seed: int, stack: ExitStack) -> None:
        self.done: Counter[str] = Counter()
        self.cancelled: dict[str, float | None] = {}
        self._scene = scene
        self._random = Random(seed)
        self._stack = stack
        self._workers = [self._start() for _ in range(WORKERS)]
        self._numbers: Iterator[int] = iter(range(10**9))
        self._open_keys: list[int] = []

    def _start(self) -> Process:
        """Start a worker; some bear a fault that strikes sooner or later."""
        fault = None
        if self._random.random() < 0.5:
            fault = Fault(point=self._random.choice(POINTS), nth=self._random.randint(1, 60))
        process = self._scene.start("worker", fault=fault, concurrency=SLOTS, grace=1.0)
        return self._stack.enter_context(process)

    async def run(self, seconds: float) -> None:
        """Do one thing after another for so long, then heal."""
        deadline = time.monotonic() + seconds
        beside = [self._publish(deadline), self._redrive(deadline), self._cancel(deadline)]
        tasks = [asyncio.create_task(each) for each in beside]
        while time.monotonic() < deadline:
            await asyncio.sleep(self._random.uniform(0.1, 0.8))
            self._replace_the_dead()
            await self._act()
        await asyncio.gather(*tasks)
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            await worker.wait()
        self._replace_the_dead(again=False)
        with self._scene.start("worker", concurrency=SLOTS) as healer:
            await self._scene.until_no_redrive_is_left()
            healer.terminate()
            await healer.wait()

    def _replace_the_dead(self, *, again: bool = True) -> None:
        for place, worker in enumerate(self._workers):
            if worker.code is None:
                continue
            assert worker.code in self.codes, f"exit code {worker.code}\n{self._scene.log()}"
            if worker.code not in {0, UNREACHABLE}:
                self._scene.faults += 1
                self.done["died"] += 1
            if again:
                self._workers[place] = self._start()

    async def _act(self) -> None:
        worker = self._random.choice(self._workers)
        action = self._random.choice(["kill", "stop", "terminate", "nothing"])
        if worker.code is not None:
            return
        self.done[action] += 1
        match action:
            case "kill":
                worker.send(signal.SIGKILL)
                await worker.wait()
            case "stop":
                self._scene.faults += 1
                self._scene.stops += 1
                worker.send(signal.SIGSTOP)
                await asyncio.sleep(self._random.uniform(0.2, 2.5))
                worker.resume()
            case "terminate":
                worker.terminate()
            case _:
                pass

    async def _publish(self, deadline: float) -> None:
        """Publish batch after batch; a publisher that is killed is followed by another one.

        What has a key and was not confirmed is published again.
        """
        while time.monotonic() < deadline or self._open_keys:
            batch: list[Publish] = [("threaded", {"n": n}, None) for n in self._open_keys]
            batch += [self._job() for _ in range(BATCH)] if time.monotonic() < deadline else []
            self._open_keys = [arguments["n"] for job, arguments, _ in batch if job == "threaded"]
            fault = None
            if self._random.random() < 0.3 and time.monotonic() < deadline:
                point = self._random.choice(
                    ["before publish_recorded", "after publish_recorded"]
                    if self._scene.place.store_url is None
                    else ["after reserve", "before publish", "after publish", "after enqueue"]
                )
                fault = Fault(point=point, nth=self._random.randint(1, BATCH))
            copies = self._random.choice([1, 1, 1, 2])
            publisher = self._scene.start(
                "publisher",
                publish=tuple(batch),
                together=self.together,
                fault=fault,
                copies=copies,
            )
            with publisher:
                await publisher.wait(patience=60)
            self.done["batches"] += 1
            confirmed = {e.more["n"] for e in of(self._scene.entries(), "confirmed")}
            self._open_keys = [n for n in self._open_keys if n not in confirmed]

    async def _redrive(self, deadline: float) -> None:
        """Put dead letters back; who does it is killed now and then."""
        points = ["after begin_redrive", "after publish", "after end_redrive"]
        while time.monotonic() < deadline:
            await asyncio.sleep(self._random.uniform(0.5, 2))
            try:
                letters = await self._scene.bq.dead_letters.search(LetterFilter(), limit=5)
            except OUTAGE:
                continue
            ids = tuple(letter.job_id for letter in letters)
            fault = (
                Fault(point=self._random.choice(points)) if self._random.random() < 0.4 else None
            )
            with self._scene.start("redriver", redrive=ids, fault=fault) as redriver:
                await redriver.wait(patience=60)
            self.done["redrives"] += len(ids)

    async def _cancel(self, deadline: float) -> None:
        """Cancel jobs; what is told to be cancelled must not begin any more."""
        waiting = JobFilter(states=[State.QUEUED, State.RETRYING, State.RUNNING, State.SCHEDULED])
        while time.monotonic() < deadline:
            await asyncio.sleep(self._random.uniform(0.2, 1))
            try:
                found = await self._scene.bq.jobs.search(waiting, limit=50)
            except OUTAGE:
                continue
            if not found:
                continue
            job_id = self._random.choice(found).id
            try:
                answer = await self._scene.bq.handle(job_id).cancel()
            except OUTAGE:  # nobody knows whether it was
                self.cancelled[job_id] = None
                continue
            self.done[f"cancel {answer}"] += 1
            if answer != CancelAnswer.TOO_LATE:
                self.cancelled[job_id] = (
                    time.monotonic() if answer is CancelAnswer.CANCELLED else None
                )

    def _job(self) -> Publish:
        job = self._random.choice(list(ENDS))
        arguments: dict[str, Any] = {"n": next(self._numbers)}
        if job == "slow":
            arguments["seconds"] = self._random.uniform(0.05, 1.5)
        return job, arguments, None


async def wreak(
    scene: Scene,
    seed: int,
    seconds: float,
    begin: Callable[[Scene, int, ExitStack], Chaos] = Chaos,
) -> None:
    with ExitStack() as stack:
        async with scene:
            chaos = begin(scene, seed, stack)
            await chaos.run(seconds)
            await scene.finish(patience=120)
            story = await scene.judge(slots=SLOTS)
            wrong = wrong_ends(story, chaos.cancelled) + begun_after_all(story, chaos.cancelled)
            assert not wrong, "\n".join(wrong)
            print(f"seed {seed}: {dict(chaos.done)}; {describe(story)}")  # noqa: T201


def begun_after_all(story: Story, cancelled: Mapping[str, float | None]) -> list[str]:
    """Return the jobs that began after somebody was told that they were cancelled."""
    return [
        f"{entry.job_id} began {entry.at - at:.3f} s after it was cancelled"
        for entry in of(story.entries, "begin")
        if (at := cancelled.get(entry.job_id)) is not None and entry.at > at
    ]


def wrong_ends(story: Story, cancelled: Collection[str]) -> list[str]:
    """Return the jobs that did not end as their kind does, were cancelled or crashed too often."""
    return [
        f"{view.job} {view.id} is {view.state} with {view.crashes} crashes: {view.note}"
        for view in story.views.values()
        if view is not None
        and view.state not in {_end(view), State.RESERVED}
        and not (view.state == State.CANCELLED and view.id in cancelled)
        and view.crashes < 3
    ]


def _end(view: JobView) -> State:
    return State.SUCCEEDED if view.job == "buried" and view.redrives else ENDS[view.job]


def describe(story: Story) -> str:
    begun = len(of(story.entries, "begin"))
    ends = Counter(view.state.value for view in story.views.values() if view is not None)
    crashes = sum(view.crashes for view in story.views.values() if view is not None)
    return f"{begun} runs, {crashes} crashes, {story.faults} faults, {dict(ends)}"


def schedule() -> tuple[int, float]:
    """Return the seed and the length of a long storm."""
    seed = os.environ.get("BROKERQ_CHAOS_SEED") or secrets.randbelow(10**6)
    return int(seed), float(os.environ.get("BROKERQ_CHAOS_SECONDS") or 90)


async def test_a_short_storm_loses_nothing(tmp_path: Path, spawner: Spawner) -> None:
    await wreak(Scene.at(tmp_path, spawner, in_steps=True), seed=1, seconds=3)


@pytest.mark.chaos
@pytest.mark.parametrize("in_steps", [False, True], ids=["in one", "in steps"])
async def test_a_long_storm_loses_nothing(
    tmp_path: Path, spawner: Spawner, capsys: pytest.CaptureFixture[str], *, in_steps: bool
) -> None:
    seed, seconds = schedule()
    with capsys.disabled():
        print(f"\nBROKERQ_CHAOS_SEED={seed} for {seconds:.0f} s, in {tmp_path}")  # noqa: T201
        await wreak(Scene.at(tmp_path, spawner, in_steps=in_steps), seed, seconds)
