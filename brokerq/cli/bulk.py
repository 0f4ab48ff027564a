"""Does one thing to many dead letters: in batches, at a rate, with a bar on a terminal."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from brokerq.cli.exits import Exit, exit_for_many
from brokerq.cli.output import Format, confirm, write_document, write_rows
from brokerq.cli.parameters import Rate
from brokerq.cli.selection import Selection
from brokerq.cli.views import LETTER_COLUMNS, letter_summary
from brokerq.errors import BrokerqError, RefusedError

if TYPE_CHECKING:
    from brokerq.app import BrokerQ

BATCH = 100
LISTED = 20
"""So many of the skipped are named for people; JSON has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """One that was left as it is.

    Attributes:
        missing: There is no such letter.
    """

    id: str
    why: str
    missing: bool = False


@dataclass(slots=True, kw_only=True)
class Tally:
    """What came of it.

    Attributes:
        error: What ended it early; the rest was not tried.
    """

    done: list[str] = field(default_factory=list[str])
    skipped: list[Skip] = field(default_factory=list[Skip])
    error: BrokerqError | None = None

    @property
    def exit(self) -> Exit:
        """The exit code it leads to, where nothing ended it early."""
        missing = sum(skip.missing for skip in self.skipped)
        refused = len(self.skipped) - missing
        return exit_for_many(done=len(self.done), missing=missing, refused=refused)


Act = Callable[["BrokerQ", Sequence[str]], Awaitable[Sequence[Skip | None]]]
"""Does it to a batch; None for each that was done."""


BatchAct = Callable[[Sequence[str]], Awaitable[Sequence[Skip | None]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """One thing to do to many letters.

    Attributes:
        everything: `--all` was given.
        dry_run: Only list them.
        word: What they are afterwards.
        question: Asked first, where it cannot be undone; `{count}` in it is how many.
        yes: Do not ask.
    """

    selection: Selection
    everything: bool
    dry_run: bool
    word: str
    question: str | None = None
    yes: bool = False

    async def run(self, bq: BrokerQ, act: Act, *, rate: Rate | None, output: Format) -> int:
        """Do it, or list what it would be done to; return the exit code."""
        if self.selection.names_all and not self.everything:
            raise RefusedError("name ids or filters, or add --all for every open dead letter")
        if self.dry_run:
            return await self._list(bq, output)
        ids = await self.selection.job_ids(bq)
        if self.question is not None and ids:
            confirm(self.question.format(count=len(ids)), yes=self.yes)
        with progress(self.word, len(ids)) as advance:
            tally = await in_batches(ids, functools.partial(act, bq), rate=rate, advance=advance)
        return report(tally, word=self.word, output=output)

    async def _list(self, bq: BrokerQ, output: Format) -> int:
        rows = [letter_summary(letter) async for letter in self.selection.find(bq)]
        if output == "json":
            write_document({"dry_run": True, "letters": rows})
        else:
            write_rows("letters", rows, columns=LETTER_COLUMNS)
            click.echo(f"{len(rows)} would be {self.word}", err=True)
        return Exit.OK


async def in_batches(
    ids: Sequence[str], act: BatchAct, *, rate: Rate | None, advance: Callable[[int], None]
) -> Tally:
    """Do it to all, no faster than `rate`; an error ends it and is kept with what was done."""
    clock = asyncio.get_running_loop().time
    tally = Tally()
    begun = clock()
    size = BATCH if rate is None else min(BATCH, rate.batch)
    for first in range(0, len(ids), size):
        if rate is not None and first:
            await asyncio.sleep(begun + first / rate.per_second - clock())
        batch = ids[first : first + size]
        try:
            answers = await act(batch)
        except BrokerqError as exc:
            tally.error = exc
            return tally
        for job_id, skip in zip(batch, answers, strict=True):
            if skip is None:
                tally.done.append(job_id)
            else:
                tally.skipped.append(skip)
        advance(len(batch))
    return tally


@contextmanager
def progress(label: str, total: int) -> Generator[Callable[[int], None]]:
    """Show a bar on stderr, if that is a terminal; yields what moves it on."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


def report(tally: Tally, *, word: str, output: Format) -> int:
    """Write what came of it; raises the error that ended it early, if one did."""
    if output == "json":
        skipped = [{"id": s.id, "why": s.why, "missing": s.missing} for s in tally.skipped]
        write_document({word: tally.done, "skipped": skipped})
    else:
        for skip in tally.skipped[:LISTED]:
            click.echo(f"skipped {skip.id}: {skip.why}", err=True)
        if len(tally.skipped) > LISTED:
            click.echo(f"skipped {len(tally.skipped) - LISTED} more", err=True)
        click.echo(f"{word} {len(tally.done)}, skipped {len(tally.skipped)}")
    if tally.error is not None:
        raise tally.error
    return tally.exit
