"""What a handler is told about the job it runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from brokerq.joblog import JobLog
from brokerq.record import Claimed
from brokerq.redaction import NOTHING, Hider
from brokerq.wire import Head


class Context:
    """The job that a handler runs, and a way to speak about it.

    Attributes:
        id: Job id, the same over all attempts.
        job: The job's name.
        queue: The queue it came from.
        attempt: Number of this attempt, from 1.
        max_attempts: The attempt that is the last.
        crashes: Workers lost while they ran the job.
        redrives: How often it came back from the dead letters.
        first_at: When it was first to run; its age counts from here.
        expires_at: Its deadline, or None.
        key: Its idempotency key, or None.
        effect_key: The same over all attempts and redeliveries: give it to another system as
            idempotency key and a repeated effect is absorbed there.
        fence: Larger for every later owner of the job.
        correlation: The publisher's correlation id, or None.
        tags: Words the publisher gave.
        headers: The publisher's own headers.
        session: The database transaction that the job's `transaction=` has opened for this run;
            None without one.
    """

    __slots__ = (
        "_cancelled",
        "_hide",
        "_log",
        "attempt",
        "correlation",
        "crashes",
        "effect_key",
        "expires_at",
        "fence",
        "first_at",
        "headers",
        "id",
        "job",
        "key",
        "max_attempts",
        "queue",
        "redrives",
        "session",
        "tags",
    )

    def __init__(
        self,
        head: Head,
        claimed: Claimed,
        *,
        queue: str,
        max_attempts: int,
        hide: Hider = NOTHING,
    ) -> None:
        self.id: str = head.id
        self.job: str = head.job
        self.queue: str = queue
        self.attempt: int = claimed.attempts + 1
        self.max_attempts: int = max_attempts
        self.crashes: int = claimed.crashes
        self.redrives: int = claimed.redrives
        self.first_at: datetime = claimed.first_at
        self.expires_at: datetime | None = claimed.expires_at
        self.key: str | None = head.key
        self.effect_key: str = f"{head.job}:{head.id if head.key is None else head.key}"
        self.fence: int = claimed.fence
        self.correlation: str | None = head.correlation
        self.tags: tuple[str, ...] = head.tags
        self.headers: Mapping[str, str] = head.user
        self.session: Any = None
        self._hide = hide
        self._log: JobLog | None = None
        self._cancelled = False

    @property
    def log(self) -> JobLog:
        """Logs to `brokerq.job` and keeps the lines with the job's record."""
        if self._log is None:
            self._log = JobLog(
                _logger, job_id=self.id, job=self.job, attempt=self.attempt, hide=self._hide
            )
        return self._log

    @property
    def logged(self) -> Sequence[str]:
        """The lines that `log` was given in this attempt."""
        return () if self._log is None else self._log.lines

    @property
    def cancelled(self) -> bool:
        """Whether the job should end early: cancelled, timed out, lost, or the worker stops.

        A coroutine is also cancelled in asyncio's way; a thread can only look here. In a process of
        its own a handler sees False for ever: it is killed instead.
        """
        return self._cancelled

    def ask_to_end(self) -> None:
        """Make `cancelled` true; what the worker does when the handler should give way."""
        self._cancelled = True


_logger = logging.getLogger("brokerq.job")
