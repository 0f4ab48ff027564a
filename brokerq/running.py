"""The part of an app that runs jobs: in a program, once over, or called by a host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from brokerq import defaults
from brokerq.duration import Duration
from brokerq.registry import Registry
from brokerq.session import Session

if TYPE_CHECKING:
    from brokerq.engine.report import Report


class RunsJobs:
    """What `BrokerQ` can do beside publishing; the engine is imported by the first use."""

    _session: Session
    _registry: Registry

    async def run_worker(
        self,
        queues: Mapping[str, int] | None = None,
        *,
        concurrency: int | None = None,
        strict: bool = False,
        burst: bool = False,
        max_jobs: int | None = None,
        grace: Duration = defaults.GRACE,
        stop: asyncio.Event | None = None,
    ) -> Report:
        """Run jobs in this program until stopped; handlers run on this event loop.

        Cancelling, or setting `stop`, lets running jobs go on for `grace`; cancelling a second time
        interrupts them at once. Interrupted jobs go back to their queue and count no attempt.

        Args:
            queues: Names and weights; None: every declared queue alike.
            concurrency: Jobs at a time; None: `BROKERQ_CONCURRENCY`, 10.
            strict: Empty the queues in the order given instead of by weight.
            burst: Return when nothing is left, delayed jobs included.
            max_jobs: Return after so many.
            grace: What running jobs get.
            stop: Set it to stop the worker.

        Returns:
            What was done, and how many jobs had to be abandoned.
        """
        from brokerq import working  # noqa: PLC0415 - who only publishes needs no engine

        options = working.plan(
            self._registry,
            queues,
            concurrency=self._session.settings.concurrency if concurrency is None else concurrency,
            until="empty" if burst else "stopped",
            strict=strict,
            max_jobs=max_jobs,
            grace=grace,
        )
        return await working.work(self._session, options, stop=stop)

    async def process(
        self,
        queues: Mapping[str, int] | None = None,
        *,
        concurrency: int | None = None,
        max_jobs: int | None = None,
        max_runtime: Duration | None = None,
        grace: Duration = defaults.GRACE,
    ) -> Report:
        """Run what is ready now, then return: for hosts that are woken by a timer.

        Returns when no job is ready, after `max_jobs`, or after `max_runtime` plus `grace`. What is
        due later is left for the next time.
        """
        from brokerq import working  # noqa: PLC0415 - who only publishes needs no engine

        options = working.plan(
            self._registry,
            queues,
            concurrency=self._session.settings.concurrency if concurrency is None else concurrency,
            until="idle",
            max_jobs=max_jobs,
            max_runtime=max_runtime,
            grace=grace,
        )
        return await working.work(self._session, options, stop=None)

    async def run_relay(self, *, burst: bool = False, stop: asyncio.Event | None = None) -> int:
        """Publish what waits in the outbox, as every worker does too; return how much that was.

        Returns when it is cancelled, when `stop` is set, or with `burst` when nothing is left in
        it, what is due later included. Raises `CapabilityError` where there is no store.
        """
        from brokerq import working  # noqa: PLC0415 - who only publishes needs no engine

        return await working.relay(self._session, until_empty=burst, stop=stop)

    def lambda_handler(self, *, concurrency: int | None = None) -> Callable[[Any, Any], Any]:
        """Return what AWS Lambda is to call: it runs the jobs that an event brings.

        The handler is a plain function of event and context; it may be called again and again, and
        connections stay open in between. Jobs run as in a worker, handlers on an event loop that
        stays too. Before the time is up that the context tells, what runs is interrupted and goes
        back, without counting an attempt, with all that was not begun.

        It raises `CapabilityError` where the broker is not one whose messages Lambda brings, and
        `ConfigurationError` or `UnknownQueueError` for an event that is not of this app's queues;
        Lambda then brings the same messages again.

        Args:
            concurrency: Jobs of one event at a time; None: `BROKERQ_CONCURRENCY`, 10.
        """
        warned: set[str] = set()

        def handle(event: Any, context: Any) -> Any:
            from brokerq import serving  # noqa: PLC0415 - as above

            most = self._session.settings.concurrency if concurrency is None else concurrency
            serve = serving.serve(
                self._session, self._registry, event, context, concurrency=most, warned=warned
            )
            return self._session.run_aside(serve)

        return handle
