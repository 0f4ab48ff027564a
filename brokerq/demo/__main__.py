"""`python -m brokerq.demo`: the demo without the rest of the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from brokerq.demo.run import run_demo
from brokerq.errors import BrokerqError


@click.command(name="brokerq.demo")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Rows to work on.")
@click.option("--rows", type=click.IntRange(min=1), help="How many of them; default: all.")
@click.option("--seed", type=int, default=1, show_default=True, help="Chooses what goes wrong.")
def main(csv_file: Path | None, rows: int | None, seed: int) -> None:
    """See real work survive a killed worker."""
    try:
        code = run_demo(csv_file, rows, seed, click.echo)
    except BrokerqError as exc:
        raise click.ClickException(str(exc)) from exc
    sys.exit(code)


if __name__ == "__main__":
    main()
