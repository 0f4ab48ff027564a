"""What a run of a handler came to: the exceptions it may raise, and the outcomes as data."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import timedelta

from brokerq.duration import Duration, to_text, to_timedelta


class Reject(Exception):  # noqa: N818 - a verdict, not an error
    """Raised by a handler: never retry; the job becomes a dead letter `rejected` now."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RetryAfter(Exception):  # noqa: N818 - a verdict, not an error
    """Raised by a handler: this attempt failed; try again after `delay`.

    The delay replaces the policy's own and is cut to the policy's `max_delay`. It counts as an
    attempt, so the last attempt's `RetryAfter` is the job's end like any other failure.
    """

    def __init__(self, delay: Duration, reason: str = "asked to retry later") -> None:
        super().__init__(reason)
        self.delay = to_timedelta(delay)
        self.reason = reason


class Snooze(Exception):  # noqa: N818 - a verdict, not an error
    """Raised by a handler: nothing failed; run again after `delay`. Only the job's age counts."""

    def __init__(self, delay: Duration, reason: str = "snoozed") -> None:
        super().__init__(reason)
        self.delay = to_timedelta(delay)
        self.reason = reason


class Drop(Exception):  # noqa: N818 - a verdict, not an error
    """Raised by a handler: the job is not needed any more; it ends as `skipped`, without effect."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class JobTimeoutError(Exception):
    """The handler ran past its timeout: an attempt that failed."""

    def __init__(self, timeout: timedelta) -> None:
        super().__init__(f"ran longer than its timeout of {to_text(timeout)}")
        self.timeout = timeout


class NotCommittedError(Exception):
    """The transaction that the handler worked in was left without a commit: an attempt that failed.

    Nothing of it has happened, the handler's effect neither.
    """

    def __init__(self) -> None:
        super().__init__(
            "the job's transaction= was left without being committed, so neither its effect nor "
            "its success is there: give one that commits, such as sessionmaker(...).begin"
        )


class ProcessDiedError(Exception):
    """The process that ran the handler died by itself: an attempt that failed.

    Attributes:
        exit_code: What it ended with; the negative number of the signal that killed it.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the process that ran the handler died: {_explain(exit_code)}")
        self.exit_code = exit_code


def _explain(exit_code: int) -> str:
    if exit_code >= 0:
        return f"it exited with code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    if -exit_code == signal.SIGKILL:
        return f"it was killed by {name}, as is done when memory runs out"
    return f"it was killed by {name}"


def text_of(error: BaseException) -> str:
    """Return what the error says, even if it fails to say it."""
    try:
        return str(error)
    except Exception as exc:  # noqa: BLE001 - a failure's own text may fail; its record must not
        return f"(no text: its __str__ raised {type(exc).__name__})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded:
    """The handler returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The handler raised, or ran past its timeout.

    Attributes:
        error: What it raised; `Reject`, `RetryAfter`, `Snooze` and `Drop` included.
    """

    error: BaseException


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The worker stopped before the handler ended; no attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The job was cancelled while it ran, and the handler gave way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrunnable:
    """The job must end, or wait, without having been run.

    Attributes:
        reason: A dead-letter reason: `undecodable`, `invalid`, `expired`, `crash_loop`,
            `key_conflict`, `unknown_job`, `unroutable`.
        detail: One sentence for people.
        wait: Only for `unknown_job`: how long the job still waits for a worker that knows it.
    """

    reason: str
    detail: str
    wait: timedelta | None = None


Outcome = Succeeded | Failed | Interrupted | Cancelled | Unrunnable
