"""`brokerq dlq`: dead letters, looked at and worked on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from brokerq.catalogue import LetterFilter, LetterState, NotRedriven
from brokerq.cli.bulk import Act, Bulk, Skip
from brokerq.cli.exits import Exit
from brokerq.cli.output import (
    Format,
    JsonObject,
    json_option,
    json_options,
    write_document,
    write_fields,
    write_line,
    write_rows,
)
from brokerq.cli.parameters import Rate
from brokerq.cli.parameters import rate as rate_type
from brokerq.cli.person import by_option, name_of
from brokerq.cli.selection import Selection, selection_options
from brokerq.cli.target import app_option, with_app
from brokerq.cli.views import LETTER_COLUMNS, letter_details, letter_export, letter_summary

if TYPE_CHECKING:
    from brokerq.app import BrokerQ

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group()
def dlq() -> None:
    """Look at dead letters, put them back, close them."""


@dlq.command("ls")
@selection_options(limit=50, states=True)
@app_option
@json_options
def list_letters(*, selection: Selection, reference: str | None, output: Format) -> int:
    """List dead letters, oldest job first."""

    async def show(bq: BrokerQ) -> int:
        rows: list[JsonObject] = []
        async for letter in selection.find(bq):
            if output == "jsonl":
                write_line(letter_summary(letter))
            else:
                rows.append(letter_summary(letter))
        if output == "json":
            write_document({"letters": rows})
        elif output == "text":
            write_rows("letters", rows, columns=LETTER_COLUMNS)
        return Exit.OK

    return with_app(reference, show)


@dlq.command("show")
@click.argument("job_id", metavar="ID")
@app_option
@json_option
def show_letter(*, job_id: str, reference: str | None, output: Format) -> int:
    """Show all of a dead letter: why it died, its payload, its headers."""

    async def show(bq: BrokerQ) -> int:
        letter = await bq.dead_letters.get(job_id)
        details = letter_details(letter, bq.registry.redaction(letter.job))
        if output == "json":
            write_document({"letter": details})
        else:
            write_fields(details, names=[name for name in details if name != "headers"])
        return Exit.OK

    return with_app(reference, show)


@dlq.command("export")
@selection_options(limit=None, states=True)
@app_option
@click.option(
    "--output",
    "target",
    type=click.File("w", encoding="utf-8"),
    default="-",
    metavar="FILE",
    help="Instead of stdout.",
)
def export_letters(*, selection: Selection, reference: str | None, target: IO[str]) -> int:
    """Write dead letters whole, a JSON line each: headers, and the body byte for byte."""

    async def export(bq: BrokerQ) -> int:
        count = 0
        async for letter in selection.find(bq):
            write_line(letter_export(letter), file=target)
            count += 1
        click.echo(f"exported {count}", err=True)
        return Exit.OK

    return with_app(reference, export)


def _bulk_options(command: Command) -> Command:
    for option in (
        json_option,
        by_option,
        click.option("--rate", type=rate_type, help="No faster than, such as 50/s."),
        click.option("--dry-run", is_flag=True, help="Only list which letters it would be."),
        click.option("--all", "everything", is_flag=True, help="Every open letter."),
        app_option,
    ):
        command = option(command)
    return command


@dlq.command("redrive")
@selection_options(limit=None, states=False)
@_bulk_options
@click.option("--force", is_flag=True, help="Also those that were redriven twice already.")
def redrive_letters(
    *,
    selection: Selection,
    reference: str | None,
    everything: bool,
    dry_run: bool,
    rate: Rate | None,
    force: bool,
    by: str | None,
    output: Format,
) -> int:
    """Put dead letters back on their queues, with fresh budgets."""

    async def act(bq: BrokerQ, ids: Sequence[str]) -> Sequence[Skip | None]:
        answers = await bq.dead_letters.redrive(ids, by=name_of(by), force=force)
        return [
            Skip(id=a.job_id, why=a.why, missing=a.missing) if isinstance(a, NotRedriven) else None
            for a in answers
        ]

    bulk = Bulk(selection=selection, everything=everything, dry_run=dry_run, word="redriven")
    return with_app(reference, lambda bq: bulk.run(bq, act, rate=rate, output=output))


@dlq.command("resolve")
@selection_options(limit=None, states=False)
@_bulk_options
@click.option("--note", help="What was done about it.")
def resolve_letters(
    *,
    selection: Selection,
    reference: str | None,
    everything: bool,
    dry_run: bool,
    rate: Rate | None,
    by: str | None,
    note: str | None,
    output: Format,
) -> int:
    """Mark dead letters as dealt with otherwise; their jobs stay dead."""
    bulk = Bulk(selection=selection, everything=everything, dry_run=dry_run, word="resolved")
    act = _closing(LetterState.RESOLVED, by=by, note=note)
    return with_app(reference, lambda bq: bulk.run(bq, act, rate=rate, output=output))


@dlq.command("discard")
@selection_options(limit=None, states=False)
@_bulk_options
@click.option("--note", help="Why.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard_letters(
    *,
    selection: Selection,
    reference: str | None,
    everything: bool,
    dry_run: bool,
    rate: Rate | None,
    by: str | None,
    note: str | None,
    yes: bool,
    output: Format,
) -> int:
    """Give dead letters up for good."""
    bulk = Bulk(
        selection=selection,
        everything=everything,
        dry_run=dry_run,
        word="discarded",
        question="Discard dead letters: {count}?",
        yes=yes,
    )
    act = _closing(LetterState.DISCARDED, by=by, note=note)
    return with_app(reference, lambda bq: bulk.run(bq, act, rate=rate, output=output))


@dlq.command("purge")
@click.argument("queue")
@app_option
@click.option("--dry-run", is_flag=True, help="Only list which letters it would be.")
@by_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge_letters(
    *,
    queue: str,
    reference: str | None,
    dry_run: bool,
    by: str | None,
    yes: bool,
    output: Format,
) -> int:
    """Discard every open dead letter of a queue."""

    async def purge(bq: BrokerQ) -> int:
        bq.registry.queue(queue)  # a misspelt one would have nothing to purge
        bulk = Bulk(
            selection=Selection(queue=queue),
            everything=True,
            dry_run=dry_run,
            word="discarded",
            question=f"Discard all dead letters of {queue}: {{count}}?",
            yes=yes,
        )
        act = _closing(LetterState.DISCARDED, by=by, note="purged")
        return await bulk.run(bq, act, rate=None, output=output)

    return with_app(reference, purge)


def _closing(state: LetterState, *, by: str | None, note: str | None) -> Act:
    async def act(bq: BrokerQ, ids: Sequence[str]) -> Sequence[Skip | None]:
        closed = await bq.dead_letters.close(ids, state=state, by=name_of(by), note=note)
        left = [job_id for job_id, ok in zip(ids, closed, strict=True) if not ok]
        if not left:
            return [None] * len(ids)
        wanted = LetterFilter(ids=left, states=None)
        found = {
            letter.job_id: letter.state
            for letter in await bq.dead_letters.search(wanted, limit=len(left))
        }
        return [
            None if ok else _skip(job_id, found.get(job_id))
            for job_id, ok in zip(ids, closed, strict=True)
        ]

    return act


def _skip(job_id: str, state: LetterState | None) -> Skip:
    if state is None:
        return Skip(id=job_id, why="there is no dead letter of this job", missing=True)
    return Skip(id=job_id, why=f"it is {state.value}, not open")
