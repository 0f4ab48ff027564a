"""One worker process: the app's worker, with signals, logging and limits around it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time

import click

from brokerq.app import BrokerQ
from brokerq.cli.dump import dump_on_quit
from brokerq.cli.exits import SIGNALLED, Exit
from brokerq.cli.logs import configure_logs
from brokerq.cli.memory import keep_program, resident_memory
from brokerq.cli.plan import WorkerPlan
from brokerq.cli.shutdown import Shutdown, end_now, watch_supervisor
from brokerq.cli.target import load_app
from brokerq.engine.report import Report
from brokerq.errors import ConfigurationError, ConnectionLostError
from brokerq.settings import unknown_variables

logger = logging.getLogger("brokerq.worker")

MEMORY_CHECK = 1.0
CLOSING = 5.0
PATIENCE = 60.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0


def run_worker(plan: WorkerPlan) -> int:
    """Work until stopped; return the exit code. Ends the process if jobs were abandoned."""
    bq = load_app(plan.reference)
    configure_logs(log_format=plan.log_format, level=plan.level or bq.settings.log_level)
    for sentence in unknown_variables(os.environ):
        logger.warning("%s", sentence)
    return asyncio.run(_run(bq, plan))


async def _run(bq: BrokerQ, plan: WorkerPlan) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    working = loop.create_task(_work(bq, plan, stop), name="brokerq worker process")
    shutdown = Shutdown(stop=stop.set, interrupt=working.cancel)
    shutdown.listen(loop)
    dump_on_quit(loop, [loop, await bq.jobs.session.call(_running_loop())])
    if plan.supervisor is not None:
        watch_supervisor(plan.supervisor, loop, lambda: shutdown.ask("the supervisor has gone"))
    watch = None
    if plan.max_memory is not None:
        watch = loop.create_task(_watch_memory(plan.max_memory, shutdown))
    try:
        report = await working
    except asyncio.CancelledError:
        if not shutdown.signals:
            raise
        # Interrupted jobs are back on their queues. A thread may still run: nobody waits for it.
        await _close(bq)
        end_now(SIGNALLED + shutdown.signals[-1])
    finally:
        if watch is not None:
            watch.cancel()
    _tell_end(report)
    await _close(bq)
    if report.abandoned:
        end_now(Exit.FAILED)
    recycled = shutdown.recycle or (not shutdown.requested and _reached(report, plan.max_jobs))
    return Exit.RECYCLE if recycled and plan.supervisor is not None else Exit.OK


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def _open(bq: BrokerQ, stop: asyncio.Event) -> None:
    """Open the app; a broker that is just being started, or restarted, is waited for."""
    deadline = time.monotonic() + PATIENCE
    pause = FIRST_PAUSE
    while True:
        try:
            await bq.open()
        except ConnectionLostError as exc:
            if stop.is_set() or time.monotonic() + pause > deadline:
                raise
            logger.warning("cannot start yet, tries again in %.1f s: %s", pause, exc)
        else:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()
        pause = min(pause * 2, LONGEST_PAUSE)


async def _work(bq: BrokerQ, plan: WorkerPlan, stop: asyncio.Event) -> Report:
    await _open(bq, stop)
    keep_program()
    _check_memory(plan.max_memory)
    _tell_start(bq, plan)
    return await bq.run_worker(
        plan.queues,
        concurrency=plan.concurrency,
        strict=plan.strict,
        burst=plan.burst,
        max_jobs=plan.max_jobs,
        grace=plan.grace,
        stop=stop,
    )


async def _close(bq: BrokerQ) -> None:
    with contextlib.suppress(TimeoutError):  # what is open then closes with the process
        async with asyncio.timeout(CLOSING):
            await bq.close()


def _check_memory(limit: int | None) -> None:
    """Refuse a limit that the app is above before it has done anything: it would never work."""
    size = resident_memory()
    if limit is not None and size > limit:
        raise ConfigurationError(
            f"the app alone takes {size:,} bytes of memory: --max-memory must be well above that"
        )


async def _watch_memory(limit: int, shutdown: Shutdown) -> None:
    """Stop the worker above the limit; memory tells nobody when it grows, so it is polled."""
    size = 0
    while size <= limit:
        await asyncio.sleep(MEMORY_CHECK)
        size = resident_memory()
    shutdown.ask(f"{size:,} bytes in memory, over --max-memory", recycle=True)


def _reached(report: Report, max_jobs: int | None) -> bool:
    """Tell whether the worker stopped because it had begun its last job."""
    begun = sum(report.outcomes.values()) + report.lost + report.abandoned
    return max_jobs is not None and begun >= max_jobs


def _tell_start(bq: BrokerQ, plan: WorkerPlan) -> None:
    weights = plan.queues or dict.fromkeys(bq.registry.queues, 1)
    where = bq.jobs.session.backends().description
    concurrency = plan.concurrency or bq.settings.concurrency
    if plan.log_format == "json":
        facts = {
            "app": plan.reference,
            "where": where,
            "queues": weights,
            "concurrency": concurrency,
            "pid": os.getpid(),
        }
        logger.info("worker starts", extra=facts)
        return
    order = "in this order" if plan.strict else "by weight"
    queues = ", ".join(f"{name}:{weight}" for name, weight in weights.items())
    click.echo(
        f"brokerq worker  pid {os.getpid()}\n"
        f"  app          {plan.reference}\n"
        f"  {where}\n"
        f"  queues       {queues} ({order})\n"
        f"  concurrency  {concurrency}",
        file=sys.stderr,
    )


def _tell_end(report: Report) -> None:
    outcomes = ", ".join(f"{count} {state}" for state, count in sorted(report.outcomes.items()))
    logger.info("worker ended: %s", outcomes or "nothing was done")
    if report.lost:
        logger.warning("%d jobs lost their lease before they were recorded", report.lost)
    if report.abandoned:
        logger.warning("%d jobs were abandoned: another worker takes them over", report.abandoned)
