"""What a process of these tests does, from its beginning to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import brokerq_sqlite
from brokerq_sqlite.session import Options

from brokerq import BrokerQ, client, redriving
from brokerq.engine import intake, upkeep, worker
from brokerq.errors import BrokerqError
from brokerq.url import Url
from tests.failure.faults import Faults, install
from tests.failure.jobs import Scribe, build_app
from tests.failure.ledger import Ledger
from tests.failure.spec import Spec

ABANDONED = 1
INTERRUPTED = 143
logger = logging.getLogger("tests.failure")


def play(spec: Spec) -> int:
    """Do what the spec says; return the exit code."""
    logging.basicConfig(filename=spec.log, level=logging.INFO, format="%(process)d %(message)s")
    faults = Faults(spec.fault, spec.outage, Path(spec.log).parent)
    install(faults, stepwise=spec.place.store_url is not None, copies=spec.copies)
    _shorten(spec)
    scribe = Scribe(ledger=Ledger(spec.place.ledger), reach=faults.reach)
    bq = build_app(spec.place, scribe)
    match spec.role:
        case "worker":
            return asyncio.run(_work(bq, spec, scribe.ledger))
        case "publisher":
            return asyncio.run(_publish(bq, spec, scribe.ledger))
        case "redriver":
            return asyncio.run(_redrive(bq, spec))


def _shorten(spec: Spec) -> None:
    """Set the times that no app can set, but a test cannot wait for."""
    held = timedelta(seconds=spec.reservation)
    changes: list[tuple[Any, str, Any]] = [
        (client, "RESERVATION", held),
        (redriving, "LEASE", held),
        (upkeep, "SWEEP_INTERVAL", 0.2),
        (intake, "APART", timedelta(milliseconds=100)),
        (worker, "GIVE_WAY", timedelta(seconds=1)),
        (worker, "FLUSH", timedelta(seconds=1)),
    ]
    pages = spec.place.max_pages
    if pages is not None:
        read_options = brokerq_sqlite.read_options

        def limited(url: Url) -> Options:
            return replace(read_options(url), max_pages=pages)

        changes.append((brokerq_sqlite, "read_options", limited))
    for module, name, value in changes:
        setattr(module, name, value)


async def _work(bq: BrokerQ, spec: Spec, ledger: Ledger) -> int:
    """Run a worker as a program does that obeys SIGTERM: once gently, twice at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with bq:
        running = asyncio.create_task(
            bq.run_worker(
                concurrency=spec.concurrency, burst=spec.burst, grace=f"{spec.grace}s", stop=stop
            )
        )

        def obey() -> None:
            if stop.is_set():
                running.cancel()
            stop.set()

        loop.add_signal_handler(signal.SIGTERM, obey)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        try:
            report = await running
        except asyncio.CancelledError:
            return INTERRUPTED
        finally:  # it ends anyway, with the code that it has earned
            loop.remove_signal_handler(signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        ledger.write("report", **asdict(report))
        return ABANDONED if report.abandoned else 0


async def _publish(bq: BrokerQ, spec: Spec, ledger: Ledger) -> int:
    async with bq:
        for job, arguments, key in spec.publish:
            n = arguments["n"]
            ledger.write("attempted", n=n)
            try:
                handle = await bq.publish(job, arguments, key=key)
            except BrokerqError as exc:
                ledger.write("refused", n=n, error=str(exc))
            else:
                ledger.write("confirmed", n=n, id=handle.id)
    return 0


async def _redrive(bq: BrokerQ, spec: Spec) -> int:
    async with bq:
        await bq.dead_letters.redrive(spec.redrive, by="a test")
    return 0


def main(text: str) -> None:
    """Play the role in a process that was forked for it; never returns."""
    code = 70  # what a crash of the program gives, apart from a worker that gave up jobs
    try:
        code = play(Spec.from_json(text))
    except BaseException:
        logger.exception("the process failed")
    finally:
        logging.shutdown()
        os._exit(code)
