"""What PostgreSQL and its client say went wrong -> which of our errors it is."""

from __future__ import annotations

import psycopg
from psycopg import errors as pg
from psycopg_pool import PoolTimeout

from brokerq.errors import BrokerqError, StorageError, StoreUnavailableError


class OutcomeUnknownError(StoreUnavailableError):
    """The connection was lost when nobody can tell whether the commit was made."""


class LostRaceError(Exception):
    """What was read without a lock was another by the time of the lock."""


IN_THE_WAY = (pg.SerializationFailure, pg.DeadlockDetected)
"""What PostgreSQL ends one transaction with for the sake of another.

The first it does in a stricter isolation than `READ COMMITTED`. A statement by itself runs in the
default of the role or the database where a pooler in transaction mode is in between.
"""

AGAIN = (LostRaceError, pg.UniqueViolation, *IN_THE_WAY)
"""What a transaction that was rolled back for it may well not meet a second time.

A unique violation is one too: somebody else wrote first what was found absent.
"""

_INDEFINITE = (pg.AdminShutdown, pg.CrashShutdown)
"""Server errors after which the commit may have been made all the same."""

_Kind = type[StorageError] | type[StoreUnavailableError]

# By SQLSTATE, or the beginning of it; the longest that fits counts.
_TOLD: dict[str, tuple[_Kind, str]] = {
    "23505": (StoreUnavailableError, "met the same conflict again and again"),
    "25006": (
        StorageError,
        "can only be read: name the primary, or add target_session_attrs=read-write",
    ),
    "28": (StorageError, "refuses this user: look at the name, the password and pg_hba.conf"),
    "3D": (StorageError, "does not exist: create the database first"),
    "3F": (StorageError, "has lost the schema while in use: put it back, or restart to begin anew"),
    "40": (StoreUnavailableError, "met the same conflict again and again"),
    "42501": (StorageError, "does not give this user the rights that are needed"),
    "42P01": (
        StorageError,
        "has lost the schema while in use: put it back, or restart to begin anew",
    ),
    "53": (StoreUnavailableError, "is short of resources"),
    "53100": (StorageError, "cannot grow: the disk is full; free some space"),
    "53300": (
        StoreUnavailableError,
        "has no connection left: raise max_connections, or lower pool_size in the URLs",
    ),
    "54": (StorageError, "has a limit that this goes beyond"),
    "55P03": (
        StoreUnavailableError,
        "is locked by somebody else for too long: look for a transaction that is left open",
    ),
    "57014": (
        StoreUnavailableError,
        "took too long for a statement: look at its load, or raise statement_timeout in the URL",
    ),
    "57P": (StoreUnavailableError, "is shutting down or starting"),
}


def translate(exc: BaseException, place: str, *, committing: bool = False) -> BrokerqError:
    """Return our error; `committing`: a commit, or a statement that is one, was under way."""
    if isinstance(exc, BrokerqError):
        return exc
    if isinstance(exc, PoolTimeout):
        return StoreUnavailableError(
            f"{place} gave no connection in time: it cannot be reached, or all of them are in use; "
            "raise pool_size in the URL for the second"
        )
    code = exc.sqlstate if isinstance(exc, psycopg.Error) else None
    if isinstance(exc, LostRaceError):
        code = pg.SerializationFailure.sqlstate
    if code is None or (committing and isinstance(exc, _INDEFINITE)):
        lost = f"the connection to {place} was lost: {_said(exc)}"
        return OutcomeUnknownError(lost) if committing else StoreUnavailableError(lost)
    kind, told = _find(code)
    return kind(f"{place} {told} ({_said(exc)})")


def in_the_way(exc: BaseException, place: str) -> StoreUnavailableError:
    """Return the error of what another transaction has made impossible for the program's."""
    return StoreUnavailableError(
        f"{place}: another transaction was in the way of this one: roll back, and try again "
        f"({_said(exc)})"
    )


def _find(code: str) -> tuple[_Kind, str]:
    fitting = (code[:length] for length in range(len(code), 1, -1))
    unknown = (StorageError, "cannot do what was asked of it")
    return next((_TOLD[part] for part in fitting if part in _TOLD), unknown)


def _said(exc: BaseException) -> str:
    """Return what the other side said, on one line."""
    return " ".join(str(exc).split()) or type(exc).__name__


def unreachable(exc: psycopg.Error, place: str) -> BrokerqError:
    """Return the error of a connection that could not be made."""
    if exc.sqlstate is not None:
        return translate(exc, place)
    return StoreUnavailableError(f"{place} cannot be reached: {_said(exc)}")


def closed(place: str) -> StoreUnavailableError:
    """Return the error of a use before `open`, or after `close`."""
    return StoreUnavailableError(f"{place} is not open: call open() first")


def forked(place: str) -> StoreUnavailableError:
    """Return the error of a use in a forked child."""
    return StoreUnavailableError(
        f"{place} was opened before this process was forked off, and connections do not survive "
        "that: call open() in the child"
    )
