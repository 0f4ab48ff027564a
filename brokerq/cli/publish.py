"""`brokerq publish`."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from brokerq.cli.arguments import argument_options, read_arguments
from brokerq.cli.exits import Exit
from brokerq.cli.parameters import duration, instant
from brokerq.cli.target import app_option, with_app

if TYPE_CHECKING:
    from brokerq.app import BrokerQ
    from brokerq.options import PublishKeywords


@click.command()
@click.argument("job")
@app_option
@argument_options
@click.option("--queue", help="Instead of the job's own; needed for a job that is not registered.")
@click.option("--delay", type=duration, help="Run it so much later, such as 10m.")
@click.option("--at", type=instant, help="Run it then, such as 2030-01-31T09:30:00Z.")
@click.option("--priority", help="A level of the queue.")
@click.option("--key", help="Idempotency key: publishing it again changes nothing.")
@click.option("--wait", is_flag=True, help="Wait for the end and write the result.")
@click.option("--timeout", type=duration, help="Wait so long at most; the job goes on.")
def publish(
    *,
    job: str,
    reference: str | None,
    pairs: tuple[str, ...],
    document: str | None,
    queue: str | None,
    delay: timedelta | None,
    at: datetime | None,
    priority: str | None,
    key: str | None,
    wait: bool,
    timeout: timedelta | None,
) -> int:
    """Publish a job by its name and write its id.

    With --wait the result is written instead, as JSON; exit code 1 if the job ends without success,
    or not in time.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is for --wait")
    arguments = read_arguments(pairs, document)
    options: PublishKeywords = {
        "queue": queue,
        "delay": delay,
        "at": at,
        "priority": priority,
        "key": key,
    }

    async def send(bq: BrokerQ) -> int:
        handle = await bq.publish(job, arguments, **options)
        click.echo(handle.id, err=wait)
        if handle.duplicate:
            click.echo("brokerq: a duplicate: this job holds the key already", err=True)
        if wait:
            # Only once it has ended is it known whether there is a result.
            result: object = await handle.result(timeout)
            click.echo(json.dumps(result, ensure_ascii=False))
        return Exit.OK

    return with_app(reference, send)
