"""`brokerq demo`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--csv",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Your own rows instead of those that come with the demo.",
)
@click.option("--rows", type=click.IntRange(min=1), help="Only so many rows.")
@click.option("--seed", type=int, default=1, show_default=True, help="For what is left to chance.")
def demo(*, csv: Path | None, rows: int | None, seed: int) -> int:
    """See real work survive a killed worker, in under a minute."""
    from brokerq.demo import run_demo

    return run_demo(csv, rows, seed, click.echo)
