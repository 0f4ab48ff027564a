"""`brokerq migrate`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from brokerq.cli.exits import Exit
from brokerq.cli.output import Format, json_option, printable, write_document
from brokerq.cli.target import app_option, load_app
from brokerq.errors import CapabilityError

if TYPE_CHECKING:
    from brokerq.connect import Backends
    from brokerq.migrations import Migrations, Version

url_argument = click.argument("url", required=False)


@click.group()
def migrate() -> None:
    """Bring brokerq's own tables in a database up to date.

    Of URL, or of the app's broker and store. Opening an app does it too, unless BROKERQ_TOPOLOGY is
    verify or assume.
    """


@migrate.command("status")
@url_argument
@app_option
@json_option
def show_status(*, url: str | None, reference: str | None, output: Format) -> int:
    """List the versions and say which are there; changes nothing. Exit code 1 if one is not."""
    places = [(each, asyncio.run(each.applied())) for each in _find(url, reference)]
    if output == "json":
        write_document(
            {
                "places": [
                    {
                        "place": each.place,
                        "applied": applied,
                        "versions": [version._asdict() for version in each.versions],
                    }
                    for each, applied in places
                ]
            }
        )
    else:
        for each, applied in places:
            click.echo(printable(each.place))
            for version in each.versions:
                state = "applied" if version.number <= applied else "pending"
                click.echo(f"  {_told(version)}  {state}")
    pending = any(applied < each.versions[-1].number for each, applied in places)
    return Exit.FAILED if pending else Exit.OK


@migrate.command("up")
@url_argument
@app_option
@json_option
def bring_up(*, url: str | None, reference: str | None, output: Format) -> int:
    """Apply what is missing; any number of processes may do so at once."""
    done = [(each, asyncio.run(each.up())) for each in _find(url, reference)]
    if output == "json":
        write_document(
            {
                "places": [
                    {"place": each.place, "applied": [version._asdict() for version in versions]}
                    for each, versions in done
                ]
            }
        )
        return Exit.OK
    for each, versions in done:
        click.echo(printable(each.place))
        for version in versions:
            click.echo(f"  {_told(version)}  applied")
        if not versions:
            click.echo("  nothing was missing")
    return Exit.OK


@migrate.command("sql")
@click.option(
    "--since",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The version that is there; 0: nothing yet.",
)
@url_argument
@app_option
def show_sql(*, url: str | None, reference: str | None, since: int) -> int:
    """Write what `migrate up` would run, for review or for psql; connects to nothing."""
    for each in _find(url, reference):
        newest = each.versions[-1].number
        if since >= newest:
            click.echo(f"version {newest} is the newest: nothing to run", err=True)
        else:
            click.echo(each.script(since=since).rstrip("\n"))
    return Exit.OK


def _told(version: Version) -> str:
    return f"{version.number:04d} {version.name}"


def _find(url: str | None, reference: str | None) -> Sequence[Migrations]:
    backends = _on(url) if url is not None else load_app(reference).jobs.session.backends()
    if not backends.migrations:
        raise CapabilityError(
            f"{backends.description}: there are no tables to bring up to date, or whoever opens "
            "them does it"
        )
    return list({each.place: each for each in backends.migrations}.values())


def _on(url: str) -> Backends:
    from brokerq.clock import SystemClock
    from brokerq.connect import open_backends

    return open_backends(url, "none://", app="migrate", clock=SystemClock(), cwd=Path.cwd())
