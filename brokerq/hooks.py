"""What a program can listen to: the steps of a job's life, and of a worker's."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from brokerq.errors import ConfigurationError

logger = logging.getLogger("brokerq.hooks")

HookName = Literal[
    "published",
    "started",
    "succeeded",
    "failed",
    "retrying",
    "dead",
    "cancelled",
    "skipped",
    "worker_start",
    "worker_stop",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a job, or (without a job) to a worker.

    Attributes:
        name: `failed` comes with each failed attempt, before `retrying` or `dead`; `dead` also
            stands for a job that expired.
        attempt: Attempts that have ended.
        reason: Of the dead letter, or why it was skipped.
        error: What the handler raised; only in the process that ran it.
        delay: Before the next attempt.
    """

    name: HookName
    at: datetime
    worker: str | None = None
    job_id: str = ""
    job: str = ""
    queue: str = ""
    attempt: int = 0
    reason: str | None = None
    error: BaseException | None = None
    delay: timedelta | None = None


Hook = Callable[[Event], Awaitable[None] | None]


class Hooks:
    """Who listens to what. A listener that raises is logged; it changes nothing."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, list[Hook]] = defaultdict(list)

    def add(self, name: HookName, hook: Hook) -> None:
        """Listen to `name`. Raises `ConfigurationError` for a name there is not."""
        if name not in get_args(HookName):
            known = ", ".join(get_args(HookName))
            raise ConfigurationError(f"there is no hook {name!r}: use one of {known}")
        self._listeners[name].append(hook)

    @property
    def listening(self) -> bool:
        """Whether anybody listens to anything."""
        return bool(self._listeners)

    def wants(self, name: HookName) -> bool:
        """Tell whether anybody listens."""
        return name in self._listeners

    async def fire(self, events: Sequence[tuple[Event, Sequence[Hook]]]) -> None:
        """Tell each event to its listeners, then to its own hooks, one after another."""
        for event, own in events:
            for hook in (*self._listeners.get(event.name, ()), *own):
                try:
                    answer = hook(event)
                    if inspect.isawaitable(answer):
                        await answer
                except asyncio.CancelledError:
                    task = asyncio.current_task()
                    if task is not None and task.cancelling():
                        raise
                    logger.exception("the hook for %r was cancelled", event.name)
                except Exception:
                    logger.exception("the hook for %r failed on job %s", event.name, event.job_id)
