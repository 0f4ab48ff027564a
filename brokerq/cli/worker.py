"""`brokerq worker`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import click

from brokerq import defaults
from brokerq.cli.logs import FORMATS, LEVELS, Level, LogFormat, choose_format
from brokerq.cli.parameters import duration, read_weights, size
from brokerq.cli.plan import WorkerPlan
from brokerq.duration import to_text


@click.command()
@click.argument("reference", metavar="[MODULE:BQ]", required=False, envvar="BROKERQ_APP")
@click.option(
    "-Q",
    "--queues",
    "queue_texts",
    multiple=True,
    metavar="NAME[:WEIGHT],...",
    help="Which queues, and their shares when all have work; every declared one if left out.",
)
@click.option("-c", "--concurrency", type=click.IntRange(min=1), help="Jobs at a time, a process.")
@click.option(
    "--processes", type=click.IntRange(min=1), help="So many processes, under a supervisor."
)
@click.option("--burst", is_flag=True, help="Stop when nothing is left, delayed jobs included.")
@click.option("--strict", is_flag=True, help="Empty the queues in the order given.")
@click.option(
    "--max-jobs",
    type=click.IntRange(min=1),
    help="Stop a process after so many jobs; its supervisor starts another.",
)
@click.option(
    "--max-memory", type=size, help="Stop a process above so much, such as 512MB; as --max-jobs."
)
@click.option(
    "--grace",
    type=duration,
    default=to_text(defaults.GRACE),
    show_default=True,
    help="How long running jobs may go on once it is to stop.",
)
@click.option("--log-format", type=click.Choice(FORMATS), help="human on a terminal, else json.")
@click.option("--log-level", "level", type=click.Choice(LEVELS), help="[default: info]")
@click.option("--supervisor", type=int, hidden=True)
def worker(
    *,
    reference: str | None,
    queue_texts: Sequence[str],
    concurrency: int | None,
    processes: int | None,
    burst: bool,
    strict: bool,
    max_jobs: int | None,
    max_memory: int | None,
    grace: timedelta,
    log_format: LogFormat | None,
    level: Level | None,
    supervisor: int | None,
) -> int:
    """Run jobs of an app; BROKERQ_APP may name it instead.

    The first SIGTERM or SIGINT stops taking jobs and lets those that run go on for --grace; the
    second interrupts them, which gives them back to their queues; the third ends the process.
    SIGQUIT writes what every task and thread is doing, and goes on. Exit code 0 after a clean end,
    1 if jobs had to be abandoned, 130 or 143 after a second signal.
    """
    if not reference:
        raise click.UsageError("say which app: brokerq worker MODULE:BQ, or set BROKERQ_APP")
    plan = WorkerPlan(
        reference=reference,
        queues=read_weights(queue_texts),
        concurrency=concurrency,
        burst=burst,
        strict=strict,
        max_jobs=max_jobs,
        max_memory=max_memory,
        grace=grace,
        log_format=choose_format(log_format),
        level=level,
        supervisor=supervisor,
    )
    if processes is not None:
        from brokerq.cli.supervisor import supervise

        return supervise(plan, processes)
    from brokerq.cli.running import run_worker

    return run_worker(plan)
