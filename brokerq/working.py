"""Runs a worker within a program: its engine on brokerq's loop, its handlers on this one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Literal

from brokerq.duration import Duration, to_timedelta
from brokerq.engine.idleness import Until
from brokerq.engine.worker import Report, Worker, WorkerOptions
from brokerq.errors import ConfigurationError, ConnectionLostError
from brokerq.registry import Registry
from brokerq.session import Session


def plan(
    registry: Registry,
    queues: Mapping[str, int] | None,
    *,
    concurrency: int,
    until: Literal["stopped", "idle", "empty"],
    strict: bool = False,
    max_jobs: int | None = None,
    max_runtime: Duration | None = None,
    grace: Duration,
) -> WorkerOptions:
    """Return what a worker is to do. Raises `ConfigurationError` or `UnknownQueueError`."""
    chosen = dict.fromkeys(registry.queues, 1) if queues is None else queues
    for name, weight in chosen.items():
        registry.queue(name)
        if weight < 1:
            raise ConfigurationError(f"queue {name!r}: its weight must be at least 1")
    if not chosen:
        raise ConfigurationError("there is nothing to work on: the app declares no queue")
    if concurrency < 1:
        raise ConfigurationError("concurrency must be at least 1")
    if max_jobs is not None and max_jobs < 1:
        raise ConfigurationError("max_jobs must be at least 1")
    return WorkerOptions(
        queues=tuple(chosen.items()),
        concurrency=concurrency,
        grace=to_timedelta(grace, what="grace"),
        strict=strict,
        until=Until(until),
        max_jobs=max_jobs,
        max_runtime=None if max_runtime is None else to_timedelta(max_runtime, what="max_runtime"),
    )


async def work(session: Session, options: WorkerOptions, *, stop: asyncio.Event | None) -> Report:
    """Run a worker until it is done; cancelling stops it, cancelling twice at once."""
    user_loop = asyncio.get_running_loop()
    host = asyncio.current_task()
    assert host is not None  # noqa: S101 - within a coroutine

    async def build() -> Worker:
        runtime = await session.runtime()
        return Worker(runtime, options, user_loop=user_loop, host=host)

    worker = await session.call(build())
    running = session.while_open(worker.main(), request_stop=worker.request_stop)
    main = session.begin(running)
    watcher = None if stop is None else asyncio.create_task(_obey(stop, worker))
    try:
        return await _shielded(main, worker)
    finally:
        if watcher is not None:
            watcher.cancel()


async def _obey(stop: asyncio.Event, worker: Worker) -> None:
    await stop.wait()
    worker.request_stop()


async def _shielded(main: asyncio.Future[Report], worker: Worker) -> Report:
    """Wait for the worker; a cancellation asks it to stop and is raised when it has.

    What is waited for is no task: `asyncio.run`, which cancels every task when the program is
    over, would else cut the worker off from the loop that its jobs run on.
    """
    cancelled: asyncio.CancelledError | None = None
    while not main.done():
        try:
            await asyncio.shield(main)
        except asyncio.CancelledError as exc:
            if main.done():
                break
            cancelled = exc
            worker.request_stop()
    if cancelled is not None:
        if not main.cancelled():
            main.exception()  # seen: the cancellation is what the caller hears of
        raise cancelled
    if main.cancelled():
        raise ConnectionLostError("the app was closed while its worker ran")
    return main.result()
