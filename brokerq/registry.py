"""What an app knows of itself: its queues, jobs, middleware and hooks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from brokerq.broker import QueueSpec
from brokerq.definition import Definition
from brokerq.errors import ConfigurationError, UnknownJobError, UnknownQueueError
from brokerq.hooks import Hooks
from brokerq.middleware import Middleware
from brokerq.redaction import NOT_REDACTED, Redaction
from brokerq.retry import RetryPolicy

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue with what only the core knows of it.

    Attributes:
        default_job: What a message runs as that names no job.
    """

    spec: QueueSpec
    default_job: str | None = None

    @property
    def default_level(self) -> str:
        """Where a message goes that asks for no priority: `normal`, or the least urgent level."""
        levels = self.spec.levels
        return "normal" if "normal" in levels else levels[-1]


@dataclass(slots=True, kw_only=True)
class Registry:
    """Everything that was declared; filled at import, read by client and worker.

    Attributes:
        explicit: Queues that were declared, not only named by a job.
        policy: For jobs that nobody here knows.
    """

    queues: dict[str, Queue] = field(default_factory=dict[str, Queue])
    explicit: set[str] = field(default_factory=set[str])
    jobs: dict[str, Definition] = field(default_factory=dict[str, Definition])
    middleware: list[Middleware] = field(default_factory=list[Middleware])
    hooks: Hooks = field(default_factory=Hooks)
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    def add_queue(self, queue: Queue) -> None:
        """Declare a queue. Raises `ConfigurationError` if it is declared otherwise already."""
        name = queue.spec.name
        check_name("queue", name)
        for level in queue.spec.levels:
            check_name("priority level", level)
        if not queue.spec.levels or len(set(queue.spec.levels)) < len(queue.spec.levels):
            raise ConfigurationError(f"queue {name!r} needs priority levels, each named once")
        if name in self.explicit and self.queues[name] != queue:
            raise ConfigurationError(f"queue {name!r} is declared twice, with other settings")
        self.queues[name] = queue
        self.explicit.add(name)

    def add_job(self, definition: Definition, *, window: timedelta) -> None:
        """Register a job, and its queue with the defaults if nobody has declared it.

        Raises `ConfigurationError` if its name is taken, or if a key would be forgotten (`window`)
        while the job could still be retried.
        """
        name = definition.name
        if name in self.jobs:
            raise ConfigurationError(f"two jobs are named {name!r}: give one of them another name=")
        if definition.retry.age_limit > window:
            raise ConfigurationError(
                f"job {name!r} may be retried for {definition.retry.age_limit} (max_age), longer "
                f"than a key is held ({window}): lower max_age, or raise Limits.window"
            )
        self.jobs[name] = definition
        if definition.queue not in self.queues:
            check_name("queue", definition.queue)
            self.queues[definition.queue] = Queue(spec=QueueSpec(name=definition.queue))

    def job(self, name: str) -> Definition:
        """Return a job. Raises `UnknownJobError`."""
        definition = self.jobs.get(name)
        if definition is None:
            raise UnknownJobError(f"no job named {name!r} is registered{_hint(name, self.jobs)}")
        return definition

    def redaction(self, job: str) -> Redaction:
        """Return what is hidden of a job; a job that is not registered hides nothing."""
        definition = self.jobs.get(job)
        return NOT_REDACTED if definition is None else definition.redaction

    def queue(self, name: str) -> Queue:
        """Return a queue. Raises `UnknownQueueError`."""
        queue = self.queues.get(name)
        if queue is None:
            raise UnknownQueueError(
                f"queue {name!r} is not declared{_hint(name, self.queues)}; "
                f'declare it with bq.queue("{name}")'
            )
        return queue

    def level(self, queue: Queue, priority: str | None) -> str:
        """Return the level to publish at. Raises `UnknownQueueError`."""
        if priority is None:
            return queue.default_level
        if priority not in queue.spec.levels:
            declared = ", ".join(queue.spec.levels)
            raise UnknownQueueError(
                f"queue {queue.spec.name!r} has no priority {priority!r}, only {declared}: "
                f"declare it with bq.queue({queue.spec.name!r}, priorities=(...))"
            )
        return priority


def check_name(what: str, name: str) -> None:
    """Raise `ConfigurationError` for a name that not every broker can carry."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{what} name {name!r} must be 1 to 60 letters, digits, '-', '_' or '.', and begin "
            "with a letter or digit"
        )


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
