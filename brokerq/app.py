"""The app: the registry of jobs and their settings, and the way to publish and run them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cached_property
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast

from brokerq import defaults
from brokerq.broker import QueueSpec
from brokerq.clock import Clock, SystemClock
from brokerq.connect import check_app_name
from brokerq.definition import DeadHook, OnStoreError, RunIn, define
from brokerq.duration import Duration, to_timedelta
from brokerq.errors import ConfigurationError
from brokerq.handle import JobHandle
from brokerq.hooks import Hook, HookName
from brokerq.inline import run_inline
from brokerq.job import AnyJob, Given, JobDecorator, Publisher, make_job
from brokerq.middleware import Middleware
from brokerq.operations import JobOperations, LetterOperations, QueueOperations
from brokerq.options import PublishKeywords, PublishOptions, publish_options
from brokerq.publishing import Request
from brokerq.registry import Queue, Registry
from brokerq.requests import request_by_name, request_for
from brokerq.retry import RetryPolicy
from brokerq.runtime import Limits
from brokerq.session import Session
from brokerq.signature import Key

if TYPE_CHECKING:
    from brokerq.engine.worker import Report
    from brokerq.settings import Settings

T = TypeVar("T")
logging.getLogger("brokerq").addHandler(logging.NullHandler())
UNSET: Any = object()


class BrokerQ(Publisher):
    """An app: its jobs and queues, on the broker that one URL chooses.

    Without `url` the broker is what `BROKERQ_URL` says, else the SQLite file `.brokerq/<name>.db`
    in the current folder. `async with` opens and closes the connections; without it the first use
    opens them.

    Args:
        name: Prefix of everything in the broker and store; at most 40 letters, digits, `-_.`.
        url: The broker, instead of `BROKERQ_URL`.
        store_url: The store, instead of `BROKERQ_STORE_URL`; None: the broker's own.
        prefix: Instead of the name.
        version: Your program's version, for dead letters.
        retry: For jobs without a policy of their own.
        limits: How much is kept for how long.
        clock: Where time comes from; for tests.
        random: Where jitter comes from; seed it for tests.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        store_url: str | None = None,
        prefix: str | None = None,
        version: str | None = None,
        retry: RetryPolicy | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        self.name = check_app_name(name)
        self._retry = retry
        self._registry = Registry()
        self._session = Session(
            self.name,
            self._registry,
            url=url,
            store_url=store_url,
            prefix=prefix,
            clock=SystemClock() if clock is None else clock,
            random=Random() if random is None else random,  # noqa: S311 - jitter, not a secret
            app_version=version,
            limits=Limits() if limits is None else limits,
            settings=lambda: self.settings,
        )
        self.jobs = self._following = JobOperations(self._session)
        self.dead_letters = LetterOperations(self._session)
        self.queues = QueueOperations(self._session)

    @cached_property
    def settings(self) -> Settings:
        """What the environment says; read once. Raises `ConfigurationError`."""
        from brokerq.settings import load_settings  # noqa: PLC0415 - slow to import

        return load_settings()

    @property
    def registry(self) -> Registry:
        """What was declared."""
        return self._registry

    def queue(
        self,
        name: str,
        *,
        priorities: Sequence[str] = ("normal",),
        ordered: bool = False,
        default_job: str | None = None,
        lease: Duration = defaults.LEASE,
    ) -> None:
        """Declare a queue that needs more than the defaults.

        Args:
            name: At most 60 letters, digits, `-_.`.
            priorities: Levels, most urgent first; each gets twice the share of the next. A publish
                without priority goes to `normal`, or where there is none to the least urgent.
            ordered: Whether jobs with the same ordering key run one at a time, in order.
            default_job: What a message runs as that names no job.
            lease: For how long a worker owns a job unless it renews; it does so at a third.
        """
        length = to_timedelta(lease, what=f"queue {name!r}: lease")
        if not length:
            raise ConfigurationError(f"queue {name!r}: lease must be longer than zero")
        spec = QueueSpec(name=name, levels=tuple(priorities), ordered=ordered, lease=length)
        self._registry.add_queue(Queue(spec=spec, default_job=default_job))

    def job(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        retry: RetryPolicy | None = None,
        timeout: Duration | None = UNSET,
        idempotency_key: Key | None = None,
        priority: str | None = None,
        tags: Iterable[str] = (),
        run_in: RunIn | None = None,
        middleware: Iterable[Middleware] = (),
        on_dead: Iterable[DeadHook] = (),
        on_store_error: OnStoreError = "stop",
    ) -> JobDecorator:
        """Register a handler; it stays callable as the function it is.

        Args:
            name: Instead of the function's own; unique within the app.
            queue: Where it is published; None: `BROKERQ_DEFAULT_QUEUE`.
            retry: None: the app's policy.
            timeout: For one run; None: no limit; left out: `BROKERQ_TIMEOUT`, 5 minutes.
            idempotency_key: A parameter's name, or a callable that takes the arguments.
            priority: A level of the queue.
            tags: Words to search by.
            run_in: A plain `def` runs in a `thread` (default) or a `process`.
            middleware: Within the app's own.
            on_dead: Called with the dead letter once it is safe.
            on_store_error: While the store is away: `stop` waits, `run` runs without records.

        Raises:
            ConfigurationError: The handler or a setting cannot work; the message says what to do.
        """

        def register(function: Callable[..., Any]) -> AnyJob:
            settings = self.settings
            definition = define(
                function,
                name=name,
                queue=queue or settings.default_queue,
                retry=retry or self._retry or RetryPolicy(max_attempts=settings.max_attempts),
                timeout=settings.timeout if timeout is UNSET else timeout,
                idempotency_key=idempotency_key,
                priority=priority,
                tags=tags,
                run_in=run_in,
                middleware=middleware,
                on_dead=on_dead,
                on_store_error=on_store_error,
            )
            self._registry.add_job(definition, window=self._session.limits.window)
            return make_job(definition, self)

        return cast("JobDecorator", register)

    def use(self, middleware: Middleware) -> Middleware:
        """Put middleware around every job, within what was added before."""
        self._registry.middleware.append(middleware)
        return middleware

    def on(self, name: HookName) -> Callable[[Hook], Hook]:
        """Listen to a step of every job's life, or of a worker's.

        `published` is called where the publish is carried out, which may be brokerq's own thread;
        all others on the worker program's event loop.
        """

        def register(hook: Hook) -> Hook:
            self._registry.hooks.add(name, hook)
            return hook

        return register

    async def publish(
        self,
        job: str,
        arguments: Mapping[str, object] | None = None,
        **options: Unpack[PublishKeywords],
    ) -> JobHandle[Any]:
        """Publish a job by its name; the options are those of `Job.options`.

        Where the job is registered its arguments are checked; elsewhere they only have to be JSON,
        and the queue has to be named.
        """
        request = request_by_name(self._registry, job, arguments or {}, publish_options(**options))
        [handle] = await self._publish([request])
        return handle

    def publish_sync(
        self,
        job: str,
        arguments: Mapping[str, object] | None = None,
        **options: Unpack[PublishKeywords],
    ) -> JobHandle[Any]:
        """As `publish`, for code that is not async; blocks the thread."""
        return self.run_sync(self.publish(job, arguments, **options))

    async def publish_job(
        self,
        job: AnyJob,
        args: tuple[object, ...],
        kwargs: dict[str, object],
        options: PublishOptions,
    ) -> JobHandle[Any]:
        """Publish one job: what `Job.publish` does."""
        [handle] = await self.publish_jobs(job, [(args, kwargs)], options)
        return handle

    async def publish_jobs(
        self, job: AnyJob, payloads: Sequence[Given], options: PublishOptions
    ) -> list[JobHandle[Any]]:
        """Publish many of one job: what `Job.publish_many` does."""
        definition = job.definition
        encode = definition.signature.encode
        return await self._publish(
            [request_for(definition, encode(*given), options) for given in payloads]
        )

    async def _publish(self, requests: Sequence[Request]) -> list[JobHandle[Any]]:
        if self.settings.mode == "inline":
            return [await self._run_inline(request) for request in requests]
        published = await self._session.publish(requests)
        return [JobHandle(each.id, self._following, duplicate=each.duplicate) for each in published]

    async def _run_inline(self, request: Request) -> JobHandle[Any]:
        definition = self._registry.job(request.job)
        done = await run_inline(
            definition,
            request,
            self._registry,
            job_id=self._session.new_id(),
            now=self._session.clock.now(),
        )
        return JobHandle(done.id, done)

    def handle(self, job_id: str) -> JobHandle[Any]:
        """Return the handle of a job published earlier, by its id; nothing is looked up."""
        return JobHandle(job_id, self._following)

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one of the app's coroutines where its connections live; blocks this thread."""
        return self._session.call_sync(coroutine)

    async def open(self) -> Self:
        """Connect now rather than with the first use.

        Raises `ConfigurationError` and its kin, `ConnectionLostError` or `StorageError`.
        """
        await self._session.call(self._session.runtime())
        return self

    async def close(self) -> None:
        """Disconnect; harmless when nothing is open. The next use connects anew.

        A worker that still runs is stopped first, without grace: its jobs go back to their queue.
        """
        await self._session.close()

    def close_sync(self) -> None:
        """As `close`, for code that is not async."""
        self._session.close_sync()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

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
            concurrency=self.settings.concurrency if concurrency is None else concurrency,
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
            concurrency=self.settings.concurrency if concurrency is None else concurrency,
            until="idle",
            max_jobs=max_jobs,
            max_runtime=max_runtime,
            grace=grace,
        )
        return await working.work(self._session, options, stop=None)
