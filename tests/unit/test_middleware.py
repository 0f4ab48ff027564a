"""A chain of functions around a handler, the first one outermost."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from brokerq.context import Context
from brokerq.errors import ConfigurationError
from brokerq.middleware import CallNext, Middleware, chain, log_runs, timeout
from brokerq.outcome import JobTimeoutError
from brokerq.records import unrecorded
from brokerq.wire import Head


@pytest.fixture
def context() -> Context:
    head = Head(id="j-1", job="work", first_at=datetime(2030, 1, 1, tzinfo=UTC))
    return Context(head, unrecorded(head), queue="default", max_attempts=3)


async def handler() -> str:
    return "handled"


async def slow() -> str:
    await asyncio.sleep(60)
    return "never"


def around(word: str) -> Middleware:
    async def middleware(_context: Context, call_next: CallNext) -> Any:
        return f"{word}({await call_next()})"

    return middleware


async def test_without_middleware_the_handler_is_called(context: Context) -> None:
    assert await chain([], handler, context) == "handled"


async def test_the_first_is_outermost(context: Context) -> None:
    assert await chain([around("a"), around("b")], handler, context) == "a(b(handled))"


async def test_all_of_it_sees_the_context(context: Context) -> None:
    seen: list[Context] = []

    async def look(ctx: Context, call_next: CallNext) -> Any:
        seen.append(ctx)
        return await call_next()

    await chain([look, look], handler, context)
    assert seen == [context, context]


async def test_what_is_not_called_does_not_run(context: Context) -> None:
    async def answer(_context: Context, _call_next: CallNext) -> Any:
        return "answered"

    assert await chain([answer, around("a")], slow, context) == "answered"


async def test_calling_twice_runs_twice(context: Context) -> None:
    calls: list[int] = []

    async def count() -> int:
        calls.append(1)
        return len(calls)

    async def again(_context: Context, call_next: CallNext) -> Any:
        await call_next()
        return await call_next()

    assert await chain([again], count, context) == 2


async def test_a_limit_ends_what_is_within(context: Context) -> None:
    with pytest.raises(JobTimeoutError, match="longer than its timeout of 10ms"):
        await chain([timeout("10ms")], slow, context)
    assert await chain([timeout("1m")], handler, context) == "handled"


async def test_a_timeout_of_the_handlers_own_is_its_own(context: Context) -> None:
    async def impatient() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await chain([timeout("1m")], impatient, context)


def test_a_limit_is_a_duration() -> None:
    with pytest.raises(ConfigurationError, match="timeout '5' is not a duration"):
        timeout("5")


async def test_runs_are_logged_whatever_comes_of_them(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "brokerq.job")

    async def fail() -> None:
        raise ValueError("no luck")

    await chain([log_runs], handler, context)
    with pytest.raises(ValueError, match="no luck"):
        await chain([log_runs], fail, context)
    assert [record.getMessage() for record in caplog.records] == [
        "job work begins (attempt 1)",
        "job work ends: done",
        "job work begins (attempt 1)",
        "job work ends: ValueError('no luck')",
    ]
