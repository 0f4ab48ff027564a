"""One app in a place of its own, and the client's side of a test."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest

from brokerq import BrokerQ, JobHandle, JobView, LetterFilter, LetterState, State
from brokerq.duration import to_timedelta
from brokerq.record import ENDED
from brokerq.store import JobFilter
from tests.failure.checks import Story, problems, unexplained
from tests.failure.jobs import QUEUE, Scribe, build_app
from tests.failure.ledger import Entry, Ledger, of, read
from tests.failure.processes import LOOK, PATIENCE, Process, Spawner
from tests.failure.spec import Fault, Place, Role, Spec

ALL = 100_000
UNFINISHED = [state for state in State if state not in ENDED]


@dataclass(slots=True, kw_only=True)
class Scene:
    """Publishes, starts processes, and judges at the end.

    Attributes:
        bq: The client's app; it is opened by first use.
        faults: How many processes were killed or stopped so far.
        stops: How many of these were stopped.
    """

    spawner: Spawner
    place: Place
    folder: Path
    bq: BrokerQ
    ledger: Ledger
    faults: int = 0
    stops: int = 0
    published: int = 0
    not_before: dict[str, datetime] = field(default_factory=dict[str, datetime])

    @classmethod
    def at(
        cls,
        folder: Path,
        spawner: Spawner,
        *,
        in_steps: bool = False,
        lease: float = 1.0,
        disk: Path | None = None,
        max_delay: float | None = None,
    ) -> Self:
        """Make one in the folder.

        Args:
            folder: For everything.
            spawner: Starts the processes.
            in_steps: Broker and store are two databases.
            lease: Seconds.
            disk: Where the databases are instead.
            max_delay: Seconds for which the broker can keep a message back, in every process but
                this one.
        """
        folder = folder / uuid.uuid4().hex[:8]
        folder.mkdir()
        data = folder if disk is None else disk
        place = Place(
            url=f"sqlite:///{data}/jobs.db",
            store_url=f"sqlite:///{data}/records.db" if in_steps else None,
            stepwise=in_steps,
            ledger=str(folder / "ledger.jsonl"),
            lease=lease,
            max_delay=max_delay,
        )
        ledger = Ledger(place.ledger)
        bq = build_app(place, Scribe(ledger=ledger))
        return cls(spawner=spawner, place=place, folder=folder, bq=bq, ledger=ledger)

    async def __aenter__(self) -> Self:
        await self.bq.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bq.close()
        self.ledger.close()

    async def publish(
        self,
        job: str,
        arguments: Mapping[str, object] | None = None,
        *,
        delay: str | None = None,
        **options: Any,
    ) -> JobHandle[Any]:
        """Publish one, and have the ledger know."""
        n = self.published
        self.published += 1
        self.ledger.write("attempted", n=n)
        begun = datetime.now(UTC)
        handle = await self.bq.publish(job, {"n": n, **(arguments or {})}, delay=delay, **options)
        self.ledger.write("confirmed", n=n, id=handle.id)
        if delay is not None:
            self.not_before[handle.id] = begun + to_timedelta(delay)
        return handle

    def spec(self, role: Role, **more: Any) -> Spec:
        """Return what a process here is told."""
        return Spec(role=role, place=self.place, log=str(self.folder / "processes.log"), **more)

    def start(self, role: Role, **more: Any) -> Process:
        """Start a process, to be used in a `with` block."""
        return self.spawner.start(self.spec(role, **more))

    async def killed(self, role: Role, fault: Fault, **more: Any) -> None:
        """Let a process run until the fault has killed it."""
        with self.start(role, fault=fault, **more) as process:
            code = await process.wait()
        self.faults += 1
        assert code == -fault.signal, f"{fault} was not reached: exit code {code}\n{self.log()}"

    async def finish(self, *, patience: float = PATIENCE, **more: Any) -> None:
        """Let one worker without faults do all that is left."""
        with self.start("worker", burst=True, **more) as process:
            try:
                code = await process.wait(patience)
            except TimeoutError as exc:
                pytest.fail(f"{exc}\n{await self.left()}\n{self.log()}")
            assert code == 0, self.log()

    async def left(self) -> str:
        """Say what is still to be done."""
        stats = await self.bq.queues.stats([QUEUE])
        unfinished = await self.bq.jobs.search(JobFilter(states=UNFINISHED), limit=ALL)
        return "\n".join(map(str, [*stats, *unfinished]))

    async def until_empty(self, patience: float = PATIENCE) -> None:
        """Wait until nothing is in the queue but dead letters."""
        deadline = time.monotonic() + patience
        while True:
            [stats] = await self.bq.queues.stats([QUEUE])
            if not (stats.ready or stats.in_flight or stats.delayed):
                return
            assert time.monotonic() < deadline, f"not empty: {stats}\n{self.log()}"
            await asyncio.sleep(LOOK)

    async def until_no_redrive_is_left(self) -> None:
        """Wait until no dead letter is being redriven any more."""
        deadline = time.monotonic() + PATIENCE
        redriving = LetterFilter(states=[LetterState.REDRIVING])
        while await self.bq.dead_letters.search(redriving, limit=1):
            assert time.monotonic() < deadline, self.log()
            await asyncio.sleep(LOOK)

    def entries(self) -> list[Entry]:
        """Return the ledger."""
        return read(self.place.ledger)

    def count(self, kind: Any, job_id: str) -> int:
        """Return how many lines of that kind the job has."""
        return len(of(self.entries(), kind, job_id))

    def outcomes(self, job_id: str) -> list[str]:
        """Return how the job's runs ended, as the handler says."""
        return [entry.more["outcome"] for entry in of(self.entries(), "end", job_id)]

    def log(self) -> str:
        """Return the end of what the processes said."""
        path = self.folder / "processes.log"
        return path.read_text("utf-8")[-20_000:] if path.exists() else ""

    async def view(self, job_id: str) -> JobView:
        """Return the job's record, whole."""
        return await self.bq.handle(job_id).status()

    async def story(self, *, slots: int | None = None) -> Story:
        """Return what happened, for the checks; `slots`: how much a fault can have hit."""
        entries = self.entries()
        ids = {view.id for view in await self.bq.jobs.search(JobFilter(), limit=ALL)}
        views: dict[str, JobView | None] = {
            entry.more["id"]: None for entry in of(entries, "confirmed")
        }
        views |= {job_id: await self.view(job_id) for job_id in ids}
        letters = await self.bq.dead_letters.search(LetterFilter(), limit=ALL)
        stats = await self.bq.queues.stats([QUEUE])
        return Story(
            entries=entries,
            views=views,
            letters=letters,
            stats=stats,
            faults=self.faults,
            stops=self.stops,
            not_before=self.not_before,
            slots=slots,
        )

    async def judge(self, *, slots: int | None = None) -> Story:
        """Fail the test if anything is wrong; return what happened."""
        story = await self.story(slots=slots)
        wrong = problems(story) + unexplained(story.views.values())
        assert not wrong, "\n".join([*wrong, self.log()])
        return story
