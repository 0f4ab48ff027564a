"""What PostgreSQL says went wrong -> what brokerq says."""

import psycopg
import pytest
from brokerq_postgres.errors import LostRaceError, OutcomeUnknownError, translate
from psycopg import errors as pg
from psycopg_pool import PoolTimeout

from brokerq.errors import BrokerqError, StorageError, StoreUnavailableError

PLACE = "postgresql://h/d"


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (psycopg.OperationalError("gone"), StoreUnavailableError, "was lost: gone"),
        (PoolTimeout("no"), StoreUnavailableError, "gave no connection in time"),
        (LostRaceError(), StoreUnavailableError, "again and again"),
        (pg.UniqueViolation("dup"), StoreUnavailableError, "again and again"),
        (pg.SerializationFailure("x"), StoreUnavailableError, "again and again"),
        (pg.DeadlockDetected("x"), StoreUnavailableError, "again and again"),
        (pg.TooManyConnections("x"), StoreUnavailableError, "max_connections"),
        (pg.LockNotAvailable("x"), StoreUnavailableError, "locked by somebody"),
        (pg.QueryCanceled("x"), StoreUnavailableError, "statement_timeout"),
        (pg.AdminShutdown("x"), StoreUnavailableError, "shutting down"),
        (pg.DiskFull("x"), StorageError, "disk is full"),
        (pg.ReadOnlySqlTransaction("x"), StorageError, "only be read"),
        (pg.InsufficientPrivilege("x"), StorageError, "rights"),
        (pg.UndefinedTable("x"), StorageError, "lost the schema"),
        (pg.InvalidPassword("x"), StorageError, "refuses this user"),
        (pg.SyntaxError("x"), StorageError, "cannot do what was asked"),
    ],
)
def test_errors_are_told_in_our_words(
    error: Exception, kind: type[BrokerqError], told: str
) -> None:
    ours = translate(error, PLACE)
    assert type(ours) is kind
    assert told in str(ours)
    assert PLACE in str(ours)


@pytest.mark.parametrize("error", [psycopg.OperationalError("gone"), pg.AdminShutdown("bye")])
def test_a_connection_lost_within_the_commit_leaves_the_outcome_open(error: Exception) -> None:
    assert type(translate(error, PLACE, committing=True)) is OutcomeUnknownError


def test_a_commit_that_was_refused_was_not_made() -> None:
    assert type(translate(pg.DiskFull("x"), PLACE, committing=True)) is StorageError


def test_our_own_errors_stay() -> None:
    error = StorageError("ours")
    assert translate(error, PLACE) is error
