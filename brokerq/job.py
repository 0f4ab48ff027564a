"""A job as the program sees it: still the function, and a way to publish it."""

from __future__ import annotations

import copy
import functools
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import (
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from brokerq.context import Context
from brokerq.definition import Definition
from brokerq.handle import JobHandle
from brokerq.options import PublishKeywords, PublishOptions, publish_options

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Given = tuple[tuple[object, ...], dict[str, object]]
"""Arguments as in a call."""


@dataclass(frozen=True, slots=True)
class Arguments(Generic[P]):
    """The arguments of one job among many; made by `Job.arguments`."""

    given: Given


class Job(Generic[P, R]):
    """A registered job; P are the parameters of its payload, R is what it returns.

    Attributes:
        definition: What the code says about it.
        publish_options: What `options` asked for.
    """

    definition: Definition
    publish_options: PublishOptions

    def __init__(
        self,
        definition: Definition,
        publisher: Publisher,
        publish_options: PublishOptions | None = None,
    ) -> None:
        functools.update_wrapper(cast("Callable[..., Any]", self), definition.function)
        self.definition = definition
        self.publish_options = PublishOptions() if publish_options is None else publish_options
        self._publisher = publisher

    @property
    def name(self) -> str:
        """The job's name, unique within the app."""
        return self.definition.name

    @property
    def queue(self) -> str:
        """Where it is published."""
        return self.publish_options.queue or self.definition.queue

    async def publish(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Return when the broker has taken durable responsibility for the job.

        Raises `PayloadError` before anything is sent, `PublishError` or `ConnectionLostError` if it
        may not have been taken; publishing again with the same key is safe then.
        """
        given = [(args, kwargs)]
        [handle] = await self._publisher.publish_jobs(self, given, self.publish_options)
        return handle

    def publish_sync(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """As `publish`, for code that is not async; blocks the thread."""
        [handle] = self._publisher.publish_jobs_sync(self, [(args, kwargs)], self.publish_options)
        return handle

    def arguments(self, *args: P.args, **kwargs: P.kwargs) -> Arguments[P]:
        """Return arguments for `publish_many`; they are checked when published."""
        return Arguments((args, kwargs))

    async def publish_many(self, payloads: Iterable[Arguments[P]]) -> list[JobHandle[R]]:
        """Publish a job for each of the arguments; the options hold for all of them.

        Returns the handles in the same order. Raises `PayloadError` before anything is sent;
        `PublishError` names those that were not taken by their position, the others were.
        """
        given = [payload.given for payload in payloads]
        return await self._publisher.publish_jobs(self, given, self.publish_options)

    def publish_many_sync(self, payloads: Iterable[Arguments[P]]) -> list[JobHandle[R]]:
        """As `publish_many`, for code that is not async; blocks the thread."""
        given = [payload.given for payload in payloads]
        return self._publisher.publish_jobs_sync(self, given, self.publish_options)

    def options(self, **options: Unpack[PublishKeywords]) -> Self:
        """Return the job with these options for what is published through it.

        `brokerq.options.PublishKeywords` says what they mean. Options given before stand, unless
        given again; this job is not changed. Raises `ConfigurationError` for a malformed one.
        """
        other = copy.copy(self)
        other.publish_options = self.publish_options.over(publish_options(**options))
        return other

    def __repr__(self) -> str:
        return f"<Job {self.name!r} on queue {self.queue!r}>"


class PlainJob(Job[P, R], Generic[P, R, T]):
    """A job whose handler takes its payload only; T is what calling it gives."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the handler itself; nothing is published."""
        result: T = self.definition.function(*args, **kwargs)
        return result


class ContextJob(Job[P, R], Generic[P, R, T]):
    """A job whose handler takes the context first; T is what calling it gives."""

    def __call__(self, context: Context, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the handler itself; nothing is published."""
        result: T = self.definition.function(context, *args, **kwargs)
        return result


AnyJob = Job[..., Any]


class JobDecorator(Protocol):
    """What `bq.job(...)` returns: makes a job of a handler, with the types of its parameters."""

    # A function that takes the context is also a function of all its parameters, and one that
    # returns a coroutine is also one that returns: the first that fits is meant.
    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> ContextJob[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], R], /
    ) -> ContextJob[P, R, R]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> PlainJob[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> PlainJob[P, R, R]: ...


class Publisher(Protocol):
    """What a job is published through."""

    @abstractmethod
    async def publish_jobs(
        self, job: AnyJob, payloads: Sequence[Given], options: PublishOptions
    ) -> list[JobHandle[Any]]:
        """Publish one job for each payload."""

    @abstractmethod
    def publish_jobs_sync(
        self, job: AnyJob, payloads: Sequence[Given], options: PublishOptions
    ) -> list[JobHandle[Any]]:
        """As `publish_jobs`, for code that is not async; blocks the thread."""


def make_job(definition: Definition, publisher: Publisher) -> AnyJob:
    """Return the job of a definition, callable as its handler is."""
    if definition.signature.wants_context:
        return ContextJob[..., Any, Any](definition, publisher)
    return PlainJob[..., Any, Any](definition, publisher)
