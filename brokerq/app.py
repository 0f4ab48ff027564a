"""The app: the registry of jobs and their settings, and the way to publish and run them."""

from __future__ import annotations

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
from brokerq.definition import DeadHook, OnStoreError, RunIn, Transaction, define
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
from brokerq.requests import connection_of, request_by_name, requests_for
from brokerq.retry import RetryPolicy
from brokerq.running import RunsJobs
from brokerq.runtime import Limits
from brokerq.session import Session
from brokerq.signature import Key
from brokerq.tally import Published

if TYPE_CHECKING:
    from brokerq.settings import Settings

T = TypeVar("T")
logging.getLogger("brokerq").addHandler(logging.NullHandler())
UNSET: Any = object()


class BrokerQ(Publisher, RunsJobs):
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
        redact: Iterable[str] = (),
        transaction: Transaction | None = None,
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
            redact: Names of payload and result fields, at any depth, whose values are hidden in
                what is recorded, logged and shown; the message itself keeps them.
            transaction: Called for each run, such as SQLAlchemy's `sessionmaker(...).begin`; what
                it yields is `ctx.session`, and its commit records the job's success too: effect
                and record happen both or not at all, however often the job is delivered. The
                store must be in the same database.

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
                redact=redact,
                transaction=transaction,
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
        request = request_by_name(self._registry, job, arguments or {}, publish_options(**options))
        [handle] = self._publish_sync([request])
        return handle

    async def publish_jobs(
        self, job: AnyJob, payloads: Sequence[Given], options: PublishOptions
    ) -> list[JobHandle[Any]]:
        """Publish many of one job: what `Job.publish_many` does."""
        return await self._publish(requests_for(job.definition, payloads, options))

    def publish_jobs_sync(
        self, job: AnyJob, payloads: Sequence[Given], options: PublishOptions
    ) -> list[JobHandle[Any]]:
        """Publish many of one job: what `Job.publish_many_sync` does."""
        return self._publish_sync(requests_for(job.definition, payloads, options))

    async def _publish(self, requests: Sequence[Request]) -> list[JobHandle[Any]]:
        if self.settings.mode == "inline":
            return [await self._run_inline(request) for request in requests]
        connection = connection_of(requests)
        if connection is not None:
            return self._handles(await self._session.join(connection, requests))
        return self._handles(await self._session.publish(requests))

    def _publish_sync(self, requests: Sequence[Request]) -> list[JobHandle[Any]]:
        connection = connection_of(requests)
        if connection is None or self.settings.mode == "inline":
            return self.run_sync(self._publish(requests))
        return self._handles(self._session.join_sync(connection, requests))

    def _handles(self, published: Sequence[Published]) -> list[JobHandle[Any]]:
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

    def open_sync(self) -> Self:
        """As `open`, for code that is not async."""
        return self.run_sync(self.open())

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
