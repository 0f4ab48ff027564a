"""What stands around every handler: a chain of functions, the first one outermost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from brokerq.context import Context
from brokerq.duration import Duration, to_timedelta
from brokerq.outcome import JobTimeoutError

CallNext = Callable[[], Awaitable[Any]]
Middleware = Callable[[Context, CallNext], Awaitable[Any]]
"""`async def middleware(ctx, call_next)`: returns what `await call_next()` returned, or else.

It may raise what a handler may raise; what it raises or swallows decides about the job. Calling
`call_next` twice runs the handler twice in one attempt.
"""

logger = logging.getLogger("brokerq.job")


async def chain(middleware: Sequence[Middleware], handler: CallNext, context: Context) -> Any:
    """Run the handler within all of the middleware."""
    if not middleware:
        return await handler()

    async def rest() -> Any:
        return await chain(middleware[1:], handler, context)

    return await middleware[0](context, rest)


async def log_runs(context: Context, call_next: CallNext) -> Any:
    """Log the beginning and the end of every run at INFO; off by default, as it costs time."""
    about = {"job_id": context.id, "job": context.job, "attempt": context.attempt}
    logger.info("job %s begins (attempt %d)", context.job, context.attempt, extra=about)
    try:
        result = await call_next()
    except BaseException as exc:
        logger.info("job %s ends: %r", context.job, exc, extra=about)
        raise
    logger.info("job %s ends: done", context.job, extra=about)
    return result


def timeout(limit: Duration) -> Middleware:
    """Return middleware that ends what is within it after `limit`, as a failed attempt.

    For a part of the chain; the job's own `timeout` is about the whole run. A handler that runs in
    a thread goes on by itself, so use it around coroutines.
    """
    seconds = to_timedelta(limit, what="timeout")

    async def within(_context: Context, call_next: CallNext) -> Any:
        scope = asyncio.timeout(seconds.total_seconds())
        try:
            async with scope:
                return await call_next()
        except TimeoutError as exc:
            if scope.expired():
                raise JobTimeoutError(seconds) from exc
            raise

    return within
