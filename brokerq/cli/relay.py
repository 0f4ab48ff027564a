"""`brokerq relay`."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

import click

from brokerq.cli.exits import SIGNALLED, Exit
from brokerq.cli.logs import FORMATS, LEVELS, Level, LogFormat, choose_format
from brokerq.cli.shutdown import STOPPING, end_now

if TYPE_CHECKING:
    from brokerq.app import BrokerQ

logger = logging.getLogger("brokerq.relay")


@click.command()
@click.argument("reference", metavar="[MODULE:BQ]", required=False, envvar="BROKERQ_APP")
@click.option("--burst", is_flag=True, help="Stop when nothing is left, what is due later too.")
@click.option("--log-format", type=click.Choice(FORMATS), help="human on a terminal, else json.")
@click.option("--log-level", "level", type=click.Choice(LEVELS), help="[default: info]")
def relay(
    *, reference: str | None, burst: bool, log_format: LogFormat | None, level: Level | None
) -> int:
    """Publish what waits in the outbox of an app; BROKERQ_APP may name it instead.

    The outbox keeps jobs that were published inside a database transaction, or with a delay that
    the broker cannot keep. Every worker relays them; this is for where no worker can run. Any
    number may run. The first SIGTERM or SIGINT ends it when what it has begun is published, the
    second at once: what is left is taken over by another relay.
    """
    if not reference:
        raise click.UsageError("say which app: brokerq relay MODULE:BQ, or set BROKERQ_APP")
    from brokerq.cli.logs import configure_logs
    from brokerq.cli.target import load_app

    bq = load_app(reference)
    format_ = choose_format(log_format)
    configure_logs(log_format=format_, level=level or bq.settings.log_level)
    return asyncio.run(_run(bq, burst=burst))


async def _run(bq: BrokerQ, *, burst: bool) -> int:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            end_now(SIGNALLED + number)
        logger.info("stopping: %s; once more ends it at once", number.name)
        stop.set()

    for number in STOPPING:
        loop.add_signal_handler(number, on_signal, number)
    try:
        await bq.open()
        logger.info("relay starts: %s", bq.jobs.session.backends().description)
        sent = await bq.run_relay(burst=burst, stop=stop)
    finally:
        await bq.close()
    logger.info("relay ended: %d messages published", sent)
    return Exit.OK
