"""What a process of these tests does, from its beginning to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import brokerq_sqlite
import brokerq_sqs.broker
import brokerq_sqs.client
from brokerq_sqlite.broker import CAPABILITIES, SqliteBroker
from brokerq_sqlite.session import Options
from brokerq_sqs.persistence import Persistence

from brokerq import BrokerQ, client, redriving
from brokerq.engine import intake, relay, slots, upkeep, worker
from brokerq.errors import OUTAGE, BrokerqError, PublishError
from brokerq.url import Url
from tests.failure.faults import Faults, install
from tests.failure.jobs import Scribe, build_app
from tests.failure.ledger import Ledger
from tests.failure.orders import Orders
from tests.failure.spec import Spec

ABANDONED = 1
UNREACHABLE = 69
INTERRUPTED = 143
logger = logging.getLogger("tests.failure")


def play(spec: Spec) -> int:
    """Do what the spec says; return the exit code."""
    logging.basicConfig(filename=spec.log, level=logging.INFO, format="%(process)d %(message)s")
    faults = Faults(spec.fault, spec.outage, Path(spec.log).parent)
    install(faults, stepwise=spec.place.stepwise, copies=spec.copies)
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
        case "relay":
            return asyncio.run(_relay(bq, spec))
        case "seller":
            return _sell(bq, spec, scribe)


def _shorten(spec: Spec) -> None:
    """Set the times that no app can set, but a test cannot wait for."""
    held = timedelta(seconds=spec.reservation)
    changes: list[tuple[Any, str, Any]] = [
        (client, "RESERVATION", held),
        (redriving, "LEASE", held),
        (relay, "LEASE", held),
        (relay, "POLL", 0.1),
        (relay, "ALARM", 1.0),
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
    timeout = spec.place.call_timeout
    if timeout is not None:
        persistence = partial(Persistence, patience=2 * timeout)
        changes += [
            (brokerq_sqs.broker, "Persistence", persistence),
            (brokerq_sqs.client, "CALL_TIMEOUT", timeout),
            (brokerq_sqs.client, "POLL_TIMEOUT", 1 + timeout),
        ]
    for module, name, value in changes:
        setattr(module, name, value)
    if spec.place.max_delay is not None:
        limited_broker: Any = SqliteBroker
        limited_broker.capabilities = limited_capabilities(spec.place.max_delay)


def limited_capabilities(max_delay: float) -> property:
    """Return the capabilities of a SQLite broker that keeps short delays only."""
    limited = replace(CAPABILITIES, max_delay=timedelta(seconds=max_delay))
    return property(lambda _: limited)


async def _work(bq: BrokerQ, spec: Spec, ledger: Ledger) -> int:
    """Run a worker as a program does that obeys SIGTERM: once gently, twice at once."""
    if spec.early is not None:
        slots.EARLY = spec.early
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        await bq.open()
    except OUTAGE:
        return UNREACHABLE
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
    async def publish(job: str, arguments: dict[str, Any], key: str | None) -> None:
        n = arguments["n"]
        ledger.write("attempted", n=n)
        try:
            handle = await bq.publish(job, arguments, key=key, delay=spec.delay)
        except BrokerqError as exc:
            unknown = isinstance(exc, PublishError) and exc.unknown
            ledger.write("unknown" if unknown else "refused", n=n, error=str(exc))
        else:
            ledger.write("confirmed", n=n, id=handle.id)

    async with bq:
        for start in range(0, len(spec.publish), spec.together):
            batch = spec.publish[start : start + spec.together]
            await asyncio.gather(*(publish(*each) for each in batch))
    return 0


async def _redrive(bq: BrokerQ, spec: Spec) -> int:
    async with bq:
        await bq.dead_letters.redrive(spec.redrive, by="a test")
    return 0


async def _relay(bq: BrokerQ, spec: Spec) -> int:
    """Run a relay until nothing is left, or until it is asked to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    async with bq:
        await bq.run_relay(burst=spec.burst, stop=stop)
    return 0


def _sell(bq: BrokerQ, spec: Spec, scribe: Scribe) -> int:
    """Write orders and publish their jobs, both in one transaction of this program's own."""
    orders = Orders(spec.place.store_url or spec.place.url)
    bq.open_sync()
    orders.make()
    with orders.connect() as db:
        for job, arguments, key in spec.publish:
            n = arguments["n"]
            scribe.ledger.write("attempted", n=n)
            orders.add(db, n)
            handle = bq.publish_sync(job, arguments, key=key, connection=db)
            scribe.reach("before commit")
            db.commit()
            scribe.ledger.write("confirmed", n=n, id=handle.id)
            scribe.reach("after commit")
    bq.close_sync()
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
