"""The demo from beginning to end: publish, kill, count, repair, redrive, check."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from brokerq import BrokerQ
from brokerq.catalogue import Letter, NotRedriven
from brokerq.demo.app import LEASE, QUEUE, demo_app
from brokerq.demo.check import Account, disagreements
from brokerq.demo.faults import Fault, plan
from brokerq.demo.ledger import read_entries, read_totals
from brokerq.demo.post import post
from brokerq.demo.processes import CONCURRENCY, DemoError, Workers, service
from brokerq.demo.publishing import Publisher
from brokerq.demo.records import anything_left, pages, read_letters, read_records
from brokerq.demo.rows import Row, read_rows
from brokerq.demo.screen import Progress, Screen, open_screen
from brokerq.demo.tally import Tally, first_table, last_table
from brokerq.duration import to_text
from brokerq.errors import OUTAGE, ConfigurationError
from brokerq.record import State
from brokerq.settings import load_settings
from brokerq.store import JobView
from brokerq.url import Url

TICK = 0.1
STALL = 30.0
AWAY = 1.0
KILL_AT = 0.4
"""Of the rows: when the first worker is killed."""
REDRIVE_BATCH = 25
REDRIVES = 2
"""So often a dead letter is put back without force."""
SHOWN = 3


def run_demo(csv: Path | None, rows: int | None, seed: int, echo: Callable[[str], None]) -> int:
    """Run the demo; return 0 if every row is accounted for, else 1.

    The broker is the one that `BROKERQ_URL` names, else a SQLite file in a new temporary folder,
    which is left for you to look into.

    Args:
        csv: Rows to work on, with a header; None: airports.
        rows: How many of them, from the top; None: all.
        seed: Chooses what goes wrong with which row.
        echo: Takes the lines, unless standard output is a terminal.

    Raises:
        ConfigurationError: The file, or the settings, are of no use; or what connecting raises.
    """
    found = dict(enumerate(read_rows(csv, rows), start=1))
    settings = load_settings()
    if settings.mode == "inline":
        raise ConfigurationError("the demo wants a queue: unset BROKERQ_MODE")
    if settings.url and Url.parse(settings.url).scheme == "memory":
        raise ConfigurationError(
            "memory:// ends with its process, and the demo kills one: "
            "unset BROKERQ_URL, or name a broker that several processes can reach"
        )
    folder = Path(tempfile.mkdtemp(prefix="brokerq-demo-"))
    file = f"sqlite:///{folder / 'queue.db'}"
    url, store_url = (settings.url, settings.store_url) if settings.url else (file, file)
    place = Place(folder=folder, fresh=not settings.url, url=url, store_url=store_url)
    name = "airports.csv" if csv is None else csv.name
    with closing(open_screen(echo)) as screen:
        screen.say(f"brokerq demo: {len(found):,} rows of {name}, seed {seed}")
        screen.say(f"queue:   {Url.parse(url)}")
        if place.fresh:
            screen.say("         (a new file; BROKERQ_URL chooses another broker)")
        try:
            return asyncio.run(_main(screen, found, place, seed))
        except DemoError as exc:
            screen.say(f"the demo cannot go on: {exc}")
            return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run's files and queue are.

    Attributes:
        fresh: Whether the queue is a new file of the demo's own.
        store_url: None: where the queue is.
    """

    folder: Path
    fresh: bool
    url: str
    store_url: str | None

    @property
    def ledger(self) -> Path:
        """The service's book."""
        return self.folder / "ledger.db"

    @property
    def environment(self) -> dict[str, str]:
        """What the workers are told; an empty variable counts as unset."""
        return {"BROKERQ_URL": self.url, "BROKERQ_STORE_URL": self.store_url or ""}


async def _main(screen: Screen, rows: dict[int, Row], place: Place, seed: int) -> int:
    run = secrets.token_hex(4)
    bq, job = demo_app(place.url, place.store_url)
    async with bq:
        await anything_left(bq, run)  # refused where no records are kept, before anything starts
        with ExitStack() as stack:
            address = stack.enter_context(service(place.folder, run=run, rows=len(rows), seed=seed))
            screen.say(f"service: {address} (some answers: late, 503 or 400)")
            workers = stack.enter_context(Workers(place.folder, place.environment))
            job = job.options(correlation=run, headers={"service": address})
            publisher = Publisher(job, rows, run=run, seed=seed)
            demo = Demo(screen, bq=bq, publisher=publisher, workers=workers, place=place, run=run)
            await demo.first_run(len(rows))
            await post(f"{address}/repair", headers={}, body=b"")
            redriven = await demo.redrive()
        invalid = [row for row, fault in plan(len(rows), seed).items() if fault is Fault.INVALID]
        return await demo.verdict(rows, invalid=invalid, redriven=redriven)


class Demo:
    """The stages of one run."""

    def __init__(
        self,
        screen: Screen,
        *,
        bq: BrokerQ,
        publisher: Publisher,
        workers: Workers,
        place: Place,
        run: str,
    ) -> None:
        self._screen = screen
        self._bq = bq
        self._publisher = publisher
        self._workers = workers
        self._place = place
        self._run = run
        self._begun = time.monotonic()

    async def first_run(self, rows: int) -> None:
        """Publish, work with a worker lost in the middle, publish again, and count."""
        publisher, screen = self._publisher, self._screen
        await publisher.publish_all()
        took = time.monotonic() - self._begun
        screen.say(f"\n{rows:,} rows published in {took:.1f} s, {publisher.twice:,} of them twice")
        first, second = self._workers.start(1), self._workers.start(2)
        screen.say(
            f"workers {first} and {second} begin: {CONCURRENCY} jobs at a time each, "
            f"leases of {to_text(LEASE)}"
        )
        await self._watch("first run", rows, until=max(1, round(rows * KILL_AT)))
        killed, new = self._workers.kill(1), self._workers.start(1)
        screen.say(f"worker {killed} killed with SIGKILL in the middle, {new} started instead")
        await self._watch("first run", rows)
        before = publisher.twice
        await publisher.publish_again(await self._succeeded())
        screen.say(f"published again, though succeeded: {publisher.twice - before:,} rows")
        records, letters = await self._read()
        screen.table(
            first_table(
                Tally.of(records, letters),
                read_entries(self._place.ledger),
                rows=rows,
                twice=publisher.twice,
                absorbed=publisher.absorbed,
            )
        )

    async def redrive(self) -> int:
        """Put the dead letters back until only the rejected are left; return how many there were.

        All of them the first time; then what is left but the rejected, which a slow machine's
        timeouts can leave.
        """
        _, letters = await self._read()
        count = len(letters)
        self._screen.say(f"the service is repaired; dead letters redriven: {count:,}")
        for _ in range(REDRIVES):
            for ids in pages([letter.job_id for letter in letters], REDRIVE_BATCH):
                for answer in await self._bq.dead_letters.redrive(ids, by="demo"):
                    if isinstance(answer, NotRedriven):
                        raise DemoError(f"job {answer.job_id} was not redriven: {answer.why}")
            await self._watch("redriven", len(letters))
            _, left = await self._read()
            letters = [letter for letter in left if letter.reason != "rejected"]
            if not letters:
                break
        return count

    async def verdict(
        self, rows: dict[int, Row], *, invalid: Collection[int], redriven: int
    ) -> int:
        """Show the end state and compare all that is known; return the exit code."""
        publisher, screen = self._publisher, self._screen
        records, letters = await self._read()
        entries = read_entries(self._place.ledger)
        account = Account(
            rows=rows,
            ids=publisher.ids,
            keys={row: f"register:{publisher.entry(row)}" for row in rows},
            twice=publisher.twice,
            absorbed=publisher.absorbed,
            records=records,
            letters=letters,
            entries=entries,
            invalid=invalid,
        )
        tally = Tally.of(records, letters)
        found = disagreements(account)
        lost = len(account.lost())
        screen.table(last_table(tally, entries, rows=len(rows), redriven=redriven, lost=lost))
        by_id = {job_id: row for row, job_id in publisher.ids.items()}
        for letter in letters[:SHOWN]:
            row = by_id[letter.job_id]
            about = ", ".join(list(rows[row].values())[:2])
            screen.say(f"dead: row {row} ({about}): {letter.reason}: {letter.error_message}")
        if len(letters) > SHOWN:
            screen.say(f"... and {len(letters) - SHOWN:,} more")
        self._hint()
        took = time.monotonic() - self._begun
        if found:
            screen.say(f"\nThe books do not agree, after {took:.0f} s:")
            for sentence in found:
                screen.say(f"- {sentence}")
            return 1
        screen.say(
            f"\nThe ledger agrees, after {took:.0f} s: every row took effect exactly once,\n"
            "or is dead with a reason; none lost."
        )
        return 0

    def _hint(self) -> None:
        self._screen.say("\nto look around:")
        if self._place.fresh:
            self._screen.say(f"  export BROKERQ_URL={self._place.url}")
        self._screen.say("  brokerq dlq ls -A brokerq.demo.app:bq")
        self._screen.say(f"  ls {self._place.folder}")

    async def _succeeded(self) -> list[int]:
        records, _ = await self._read()
        done = {view.id for view in records if view.state is State.SUCCEEDED}
        return [row for row, job_id in self._publisher.ids.items() if job_id in done]

    async def _read(self) -> tuple[Sequence[JobView], Sequence[Letter]]:
        records = await read_records(self._bq, self._run)
        return records, await read_letters(self._bq, records)

    async def _watch(self, phase: str, total: int, *, until: int | None = None) -> None:
        """Show progress until so many jobs have ended, or (None) all of them.

        Raises `DemoError` if a worker ends, or nothing happens for long.
        """
        seen, changed = (-1, -1), time.monotonic()
        while True:
            self._workers.check()
            try:
                [stats] = await self._bq.queues.stats([QUEUE])
            except OUTAGE as exc:
                if time.monotonic() - changed > STALL:
                    raise
                self._screen.say(f"{phase}: the broker is away, the workers wait for it: {exc}")
                await asyncio.sleep(AWAY)
                continue
            left = stats.ready + stats.in_flight + stats.delayed
            calls, effects = read_totals(self._place.ledger)
            detail = (
                f"{stats.ready:,} ready, {stats.in_flight:,} in flight, {stats.delayed:,} delayed, "
                f"{stats.dead:,} dead; {calls:,} calls, {effects:,} effects"
            )
            ended = max(0, total - left)
            self._screen.progress(Progress(phase=phase, ended=ended, total=total, detail=detail))
            if until is not None and ended >= until:
                return
            if not left and not await anything_left(self._bq, self._run):
                return
            if (left, calls) != seen:
                seen, changed = (left, calls), time.monotonic()
            elif time.monotonic() - changed > STALL:
                raise DemoError(f"nothing has happened for {STALL:.0f} s: {detail}")
            await asyncio.sleep(TICK)
