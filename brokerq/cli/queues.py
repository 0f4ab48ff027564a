"""`brokerq queues`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from brokerq.cli.exits import Exit
from brokerq.cli.output import Format, confirm, json_options, write_document, write_line, write_rows
from brokerq.cli.person import by_option, name_of
from brokerq.cli.target import app_option, with_app
from brokerq.cli.views import QUEUE_COLUMNS, late_outbox, outbox_summary, queue_summary

if TYPE_CHECKING:
    from brokerq.app import BrokerQ

LATE = timedelta(seconds=30)


@click.group()
def queues() -> None:
    """Look at queues, pause and empty them."""


@queues.command("ls")
@app_option
@json_options
def list_queues(*, reference: str | None, output: Format) -> int:
    """List the app's queues and how they stand."""

    async def show(bq: BrokerQ) -> int:
        paused = await bq.queues.paused()
        declared = bq.registry.queues
        rows = [
            queue_summary(
                stats, paused=stats.queue in paused, levels=declared[stats.queue].spec.levels
            )
            for stats in await bq.queues.stats()
        ]
        outbox = await bq.queues.outbox()
        if output == "json":
            write_document({"queues": rows, "outbox": outbox_summary(outbox)})
        elif output == "jsonl":
            for row in rows:
                write_line(row)
        else:
            write_rows("queues", rows, columns=QUEUE_COLUMNS)
        if outbox is not None and outbox.overdue >= LATE:
            click.echo(late_outbox(outbox), err=True)
        return Exit.OK

    return with_app(reference, show)


@queues.command("pause")
@click.argument("names", metavar="QUEUE...", nargs=-1, required=True)
@app_option
@by_option
def pause_queues(*, names: Sequence[str], reference: str | None, by: str | None) -> int:
    """Have no worker take from the queues; what runs goes on.

    Workers learn of it within about a second, new ones obey it too.
    """

    async def pause(bq: BrokerQ) -> int:
        for name in names:
            await bq.queues.pause(name, by=name_of(by))
            click.echo(f"paused {name}")
        return Exit.OK

    return with_app(reference, pause)


@queues.command("resume")
@click.argument("names", metavar="QUEUE...", nargs=-1, required=True)
@app_option
def resume_queues(*, names: Sequence[str], reference: str | None) -> int:
    """Undo a pause."""

    async def resume(bq: BrokerQ) -> int:
        for name in names:
            await bq.queues.resume(name)
            click.echo(f"resumed {name}")
        return Exit.OK

    return with_app(reference, resume)


@queues.command("purge")
@click.argument("name", metavar="QUEUE")
@app_option
@click.option("--dry-run", is_flag=True, help="Only say how many messages there are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge_queue(*, name: str, reference: str | None, dry_run: bool, yes: bool) -> int:
    """Remove everything that waits in a queue; its jobs are recorded as cancelled.

    What runs goes on, dead letters stay.
    """

    async def purge(bq: BrokerQ) -> int:
        [stats] = await bq.queues.stats([name])
        waiting = stats.ready + stats.delayed
        if dry_run:
            click.echo(f"would remove {waiting} messages from {name}")
            return Exit.OK
        confirm(f"Remove {waiting} messages from {name}?", yes=yes)
        click.echo(f"removed {await bq.queues.purge(name)} messages from {name}")
        return Exit.OK

    return with_app(reference, purge)
