"""What SQLite says went wrong -> which of our errors it is, and what to do about it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from brokerq.errors import BrokerqError, StorageError, StoreUnavailableError

_PRIMARY = 0xFF
"""The low byte of an extended result code is the kind of failure."""

_ADVICE = {
    sqlite3.SQLITE_READONLY: (
        "can only be read: let this user write to the file and to its directory"
    ),
    sqlite3.SQLITE_PERM: "may not be used: let this user write to the file and to its directory",
    sqlite3.SQLITE_FULL: "cannot grow: the disk is full, or a quota is; free some space",
    sqlite3.SQLITE_IOERR: "could not be read or written: look after the disk it is on",
    sqlite3.SQLITE_CORRUPT: (
        'is damaged: stop all workers, save a copy, and recover what is left with the ".recover" '
        "command of the sqlite3 program"
    ),
    sqlite3.SQLITE_NOTADB: "is no SQLite database: name another file, or move this one away",
    sqlite3.SQLITE_CANTOPEN: (
        "cannot be opened: its directory must exist, and this user must be able to write there"
    ),
}


class OutcomeUnknownError(StorageError):
    """The commit failed in a way that leaves open whether it was made."""


def translate(exc: sqlite3.Error, path: Path, *, committing: bool = False) -> BrokerqError:
    """Return our error for one of SQLite's; `committing`: it was raised by the commit itself."""
    kind = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY
    if kind in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return locked(path)
    advice = _ADVICE.get(kind)
    if advice is None:
        return StorageError(f"{path} cannot be used: {exc}")
    if committing and kind == sqlite3.SQLITE_IOERR:
        return OutcomeUnknownError(f"{path} {advice} ({exc})")
    return StorageError(f"{path} {advice} ({exc})")


def locked(path: Path) -> StoreUnavailableError:
    """Return the error of a file that another process does not let go of."""
    return StoreUnavailableError(
        f"{path} is locked by another process for too long: look for one that is stopped within a "
        "transaction, or raise lock_timeout in the URL"
    )


def closed(path: Path) -> StoreUnavailableError:
    """Return the error of a use before `open`, or after `close`."""
    return StoreUnavailableError(f"{path} is not open: call open() first")


def forked(path: Path) -> StoreUnavailableError:
    """Return the error of a use in a forked child."""
    return StoreUnavailableError(
        f"{path} was opened before this process was forked off, and SQLite's connections do "
        "not survive that: call open() in the child"
    )


def vanished(path: Path) -> StorageError:
    """Return the error of a file that is another one now."""
    return StorageError(
        f"{path} was removed or replaced while it was in use: what is written now would be lost; "
        "put the file back, or restart to begin with a new one"
    )
