"""Exit codes, and which error leads to which."""

from __future__ import annotations

from enum import IntEnum

from brokerq import errors

SIGNALLED = 128
"""Plus the signal's number: ended by a signal."""


class Exit(IntEnum):
    """What a command's exit code says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    """The command, the app or the settings are wrong: trying again does not help."""
    NOT_FOUND = 3
    REFUSED = 4
    """The state of the thing forbids it, or it is unsafe and `--yes` was not given."""
    UNREACHABLE = 5
    """The broker or store cannot be reached, or its storage fails."""
    PARTIAL = 6
    """Some of many were skipped."""
    RECYCLE = 75
    """From a worker to its supervisor: start me anew."""


_BY_ERROR: tuple[tuple[type[errors.BrokerqError], Exit], ...] = (
    (errors.ConfigurationError, Exit.USAGE),
    (errors.PayloadError, Exit.USAGE),
    (errors.UnknownJobError, Exit.NOT_FOUND),
    (errors.UnknownQueueError, Exit.NOT_FOUND),
    (errors.NotFoundError, Exit.NOT_FOUND),
    (errors.RefusedError, Exit.REFUSED),
    (errors.KeyConflictError, Exit.REFUSED),
    (errors.ConnectionLostError, Exit.UNREACHABLE),
    (errors.StorageError, Exit.UNREACHABLE),
)


def exit_for(error: errors.BrokerqError) -> Exit:
    """Return the exit code that an error leads to."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), Exit.FAILED)


def exit_for_many(*, done: int, missing: int, refused: int) -> Exit:
    """Return the exit code of a command on many things, some of which may have been skipped."""
    if not missing and not refused:
        return Exit.OK
    if done:
        return Exit.PARTIAL
    return Exit.REFUSED if refused else Exit.NOT_FOUND
