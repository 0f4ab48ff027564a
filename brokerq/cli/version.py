"""`brokerq version`."""

from __future__ import annotations

import platform

import click

from brokerq.cli.exits import Exit
from brokerq.cli.output import Format, json_option, write_document


@click.command(short_help="Show the version, and which adapters are installed.")
@json_option
def version(*, output: Format) -> int:
    """Show the version of brokerq, of Python, and which adapters are installed."""
    from importlib.metadata import entry_points
    from importlib.metadata import version as installed

    own = installed("brokerq")
    schemes = sorted(point.name for point in entry_points(group="brokerq.adapters"))
    python = platform.python_version()
    if output == "json":
        write_document({"version": own, "python": python, "adapters": schemes})
    else:
        click.echo(f"brokerq {own} (Python {python}; adapters: {', '.join(schemes)})")
    return Exit.OK
