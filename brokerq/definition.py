"""What the code says about a job: its handler and how it is run."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MethodType
from typing import Any, Literal

from brokerq import defaults
from brokerq.catalogue import Letter
from brokerq.context import Context
from brokerq.duration import ZERO, Duration, to_timedelta
from brokerq.errors import ConfigurationError
from brokerq.middleware import Middleware
from brokerq.redaction import NOT_REDACTED, Redaction
from brokerq.retry import RetryPolicy
from brokerq.signature import Key, Signature

RunIn = Literal["loop", "thread", "process"]
OnStoreError = Literal["stop", "run"]
Transaction = Callable[[], AbstractAsyncContextManager[Any] | AbstractContextManager[Any]]
"""Returns what yields a connection or session, and commits when it is left without an error."""
DeadHook = Callable[[Letter], Awaitable[None] | None]
"""Called once the dead letter is safe; may be a coroutine function."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Definition:
    """A job as it was declared.

    Attributes:
        name: Unique within the app.
        queue: Where it is published unless told otherwise.
        function: The handler itself.
        retry: Its budgets, delays and what errors mean.
        timeout: For how long one run may take; None: without limit.
        idempotency_key: Names a parameter, or is called with the arguments by name; None: the job
            id stands for the key.
        priority: Level on its queue; None: the queue's default.
        tags: Words to search by.
        run_in: `loop` for coroutines, else `thread` or `process`; the latter can be killed.
        middleware: Within the app's own.
        on_dead: Called when the job has become a dead letter.
        on_store_error: While the store is away: `stop` waits, `run` goes on without records.
        redaction: Fields of payload and result that are not to be read.
        transaction: Opens the database transaction that a run works in; None: it has none.
    """

    name: str
    queue: str
    function: Callable[..., Any]
    signature: Signature
    retry: RetryPolicy
    timeout: timedelta | None = defaults.TIMEOUT
    idempotency_key: Key | None = None
    priority: str | None = None
    tags: tuple[str, ...] = ()
    run_in: RunIn = "thread"
    middleware: tuple[Middleware, ...] = ()
    on_dead: tuple[DeadHook, ...] = ()
    on_store_error: OnStoreError = "stop"
    redaction: Redaction = NOT_REDACTED
    transaction: Transaction | None = None

    @property
    def needs_context(self) -> bool:
        """Whether anything but the worker's own middleware will look at the context."""
        return self.signature.wants_context or bool(self.middleware) or self.run_in == "process"

    def key(self, values: dict[str, object]) -> str | None:
        """Return the idempotency key of a payload; None: the job id stands for it.

        Raises `PayloadError` for a key that is empty or too long.
        """
        if self.idempotency_key is None:
            return None
        return self.signature.key(self.idempotency_key, values)


def define(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    queue: str = defaults.QUEUE,
    retry: RetryPolicy | None = None,
    timeout: Duration | None = defaults.TIMEOUT,
    idempotency_key: Key | None = None,
    priority: str | None = None,
    tags: Iterable[str] = (),
    run_in: RunIn | None = None,
    middleware: Iterable[Middleware] = (),
    on_dead: Iterable[DeadHook] = (),
    on_store_error: OnStoreError = "stop",
    redact: Iterable[str] = (),
    transaction: Transaction | None = None,
) -> Definition:
    """Return the definition, checked. Raises `ConfigurationError` that says what to change.

    Args:
        function: The handler.
        name: Instead of the function's own.
        queue: Where it is published.
        retry: None: a policy with every default.
        timeout: None: without limit.
        idempotency_key: A parameter's name, or a callable.
        priority: A level of the queue.
        tags: Words to search by.
        run_in: None: `loop` for a coroutine, else `thread`.
        middleware: The first one outermost.
        on_dead: Called in turn.
        on_store_error: `stop` or `run`.
        redact: Names of fields.
        transaction: Opens a transaction for each run.
    """
    job = _name(function, name)
    signature = Signature.of(function, job=job, context=Context)
    if idempotency_key is not None:
        signature.check_key(idempotency_key)
    for what, words in (("tags", tags), ("redact", redact)):
        if isinstance(words, str):
            raise ConfigurationError(f"job {job!r}: {what} is a list of words: write [{words!r}]")
    place = _where(run_in, function, job, is_async=signature.is_async)
    if transaction is not None:
        _check_transaction(job, signature, place, on_store_error)
    return Definition(
        name=job,
        queue=queue,
        function=function,
        signature=signature,
        retry=RetryPolicy() if retry is None else retry,
        timeout=None if timeout is None else _positive(timeout, "timeout", job),
        idempotency_key=idempotency_key,
        priority=priority,
        tags=tuple(tags),
        run_in=place,
        middleware=tuple(middleware),
        on_dead=tuple(on_dead),
        on_store_error=on_store_error,
        redaction=Redaction(tuple(redact)),
        transaction=transaction,
    )


def _name(function: Callable[..., object], name: str | None) -> str:
    if name is None:
        name = getattr(function, "__name__", None)
        if name is None or name == "<lambda>":
            raise ConfigurationError(
                "a handler without a name of its own cannot be a job: write a `def`, or give name="
            )
    if not name:
        raise ConfigurationError("a job's name must not be empty: leave name= out instead")
    return name


def _positive(value: Duration, what: str, job: str) -> timedelta:
    duration = to_timedelta(value, what=f"job {job!r}: {what}")
    if duration == ZERO:
        raise ConfigurationError(f"job {job!r}: {what} must be longer than zero")
    return duration


def _where(
    run_in: RunIn | None, function: Callable[..., object], job: str, *, is_async: bool
) -> RunIn:
    if run_in is None:
        return "loop" if is_async else "thread"
    if run_in not in {"loop", "thread", "process"}:
        raise ConfigurationError(f"job {job!r}: run_in is loop, thread or process, not {run_in!r}")
    if is_async and run_in != "loop":
        raise ConfigurationError(
            f"job {job!r}: an `async def` runs on the loop: leave run_in out, or write a `def`"
        )
    if not is_async and run_in == "loop":
        raise ConfigurationError(
            f"job {job!r}: a plain `def` on the loop would hold up all other jobs: "
            'write `async def`, or run_in="thread"'
        )
    if run_in == "process" and not _is_importable(function):
        raise ConfigurationError(
            f"job {job!r}: a child process has to find the handler by the name of its module and "
            f"its own, and cannot find {function.__module__}.{function.__qualname__} by that: move "
            "it to the top level of a module"
        )
    return run_in


def _check_transaction(
    job: str, signature: Signature, run_in: RunIn, on_store_error: OnStoreError
) -> None:
    if not signature.wants_context:
        raise ConfigurationError(
            f"job {job!r}: transaction= gives its session to the context: write a first parameter "
            "`ctx: Context`, and use ctx.session"
        )
    if run_in == "process":
        raise ConfigurationError(
            f"job {job!r}: a transaction cannot be taken to a child process: leave run_in out"
        )
    if on_store_error == "run":
        raise ConfigurationError(
            f"job {job!r}: with transaction= effect and record are one, so it cannot run while the "
            'store is away: leave on_store_error="run" out'
        )


def _is_importable(function: Callable[..., object]) -> bool:
    if isinstance(function, MethodType) or "<" in function.__qualname__:  # <locals>, <lambda>
        return False
    if function.__module__ != "__main__":
        return True
    main = sys.modules["__main__"]
    if main.__spec__ is not None:  # python -m package runs a file that is not to be imported
        return not main.__spec__.name.endswith("__main__")
    return Path(getattr(main, "__file__", None) or "").is_file()
