"""Runs a worker or a relay within a program: the engine on brokerq's loop, handlers on this one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal, TypeVar

from brokerq.duration import Duration, to_timedelta
from brokerq.engine.idleness import Until
from brokerq.engine.relay import Relay
from brokerq.engine.report import Report
from brokerq.engine.worker import Worker, WorkerOptions
from brokerq.errors import ConfigurationError, ConnectionLostError
from brokerq.explain import refuse_long_runs
from brokerq.operations import store_of
from brokerq.registry import Registry
from brokerq.session import Session

T = TypeVar("T")


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
        refuse_long_runs(runtime.registry.jobs.values(), runtime.broker.capabilities)
        return Worker(runtime, options, user_loop=user_loop, host=host)

    worker = await session.call(build())
    return await run(session, worker.main(), worker.request_stop, stop)


async def relay(session: Session, *, until_empty: bool, stop: asyncio.Event | None) -> int:
    """Run a relay until it is done, as `work` does; return how many messages it published.

    Raises `CapabilityError` where there is no store to have an outbox.
    """

    async def build() -> Relay:
        runtime = await session.runtime()
        return Relay(runtime, store_of(runtime))

    one = await session.call(build())
    return await run(session, one.main(until_empty=until_empty), one.request_stop, stop)


async def run(
    session: Session,
    main: Coroutine[Any, Any, T],
    request_stop: Callable[[], None],
    stop: asyncio.Event | None,
) -> T:
    """Run `main` on the engine's loop until it is done, as `work` does."""
    running = session.begin(session.while_open(main, request_stop=request_stop))
    watcher = None if stop is None else asyncio.create_task(_obey(stop, request_stop))
    try:
        return await _shielded(running, request_stop)
    finally:
        if watcher is not None:
            watcher.cancel()


async def _obey(stop: asyncio.Event, request_stop: Callable[[], None]) -> None:
    await stop.wait()
    request_stop()


async def _shielded(main: asyncio.Future[T], request_stop: Callable[[], None]) -> T:
    """Wait for the end; a cancellation asks for it and is raised when it has come.

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
            request_stop()
    if cancelled is not None:
        if not main.cancelled():
            main.exception()  # seen: the cancellation is what the caller hears of
        raise cancelled
    if main.cancelled():
        raise ConnectionLostError("the app was closed while its worker or relay ran")
    return main.result()
