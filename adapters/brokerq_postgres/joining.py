"""Writing within a transaction that the program has begun on a connection of its own.

All of ours is in a savepoint, so a failure leaves the transaction as it was. What the program set
for its session holds, but for two things: text must come and go as UTF-8, and where it bounds no
wait for a lock, ours is bounded by `lock_timeout` of the URL; another transaction that publishes
under the same key is waited for, and may wait for this one outside of the database's sight.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import psycopg
from psycopg.errors import UniqueViolation
from psycopg.pq import TransactionStatus

from brokerq.errors import CapabilityError, RefusedError
from brokerq_postgres.database import Database
from brokerq_postgres.errors import AGAIN, LostRaceError, in_the_way, translate
from brokerq_postgres.listening import announcement
from brokerq_postgres.program import Program
from brokerq_postgres.queries import Queries
from brokerq_postgres.transaction import Answer, Transaction, Values

T = TypeVar("T")
Run = Callable[[Transaction], Awaitable[T]]

_TRIES = 12
_SEE_LATEST = frozenset({"read committed", "read uncommitted"})
"""Levels in which each statement sees what was committed before it began; for PostgreSQL one."""
_SENDER = "transaction"
"""Of notifications that are not a process's own: whoever sent them has not rung its own bells."""


class Joined(Transaction):
    """The program's transaction, as far as ours is used to write records and messages.

    Attributes:
        again: After which errors a second try would see more than the first.
        isolation: Its level, as PostgreSQL writes it.
    """

    __slots__ = ("_program", "again", "isolation")

    def __init__(self, program: Program, queries: Queries, app: int) -> None:
        self.app = app
        self.queries = queries
        self.touched = {}
        self.again: tuple[type[Exception], ...] = ()
        self.isolation = ""
        self._program = program

    def require_latest(self) -> None:
        if self.isolation not in _SEE_LATEST:
            raise RefusedError(
                f"the connection's transaction is {self.isolation.upper()} and may not see the "
                "last job with the ordering key: publish this one in READ COMMITTED, or without "
                "connection= after the commit"
            )

    async def send(self, name: str, values: Values) -> Answer:
        return await self._program.send(self.queries[name], values)


class _AgainError(Exception):
    """What was read has changed meanwhile, and a second look will show it."""


async def join(
    program: Program, database: Database, run: Run[T], *, wrote: Callable[[T], bool]
) -> T:
    """Run it in the program's transaction.

    Where nothing was written (`wrote`) it is undone all the same: it has locked records that their
    workers would have to wait for until the program commits.

    Raises `CapabilityError`, `RefusedError`, `StoreUnavailableError` or `StorageError`; nothing was
    written then.
    """
    if program.encoding != "utf-8":
        raise CapabilityError(
            f"the connection's client_encoding is {program.encoding}, and brokerq needs UTF8: "
            "connect with client_encoding=utf8"
        )
    try:
        for _ in range(_TRIES):
            with suppress(_AgainError):
                return await _run_guarded(program, database, run, wrote)
    except AGAIN as exc:
        raise in_the_way(exc, database.options.place) from exc
    except psycopg.Error as exc:
        raise translate(exc, database.options.place) from exc
    raise in_the_way(LostRaceError(), database.options.place)


async def _run_guarded(
    program: Program, database: Database, run: Run[T], wrote: Callable[[T], bool]
) -> T:
    """Run it in a savepoint, and undo it if it fails."""
    transaction = Joined(program, database.queries, database.app)
    outcome: list[T] = []
    error: Exception | None = None
    pipelined = program.pipelined
    if not pipelined:
        _check_status(program)
    async with program.pipeline() as pipe:
        if pipelined:
            await pipe.sync()  # the status is not known before
            _check_status(program)
        try:
            await program.send(b"SAVEPOINT brokerq")
            outcome.append(await _run(transaction, database, run))
            if not wrote(outcome[0]):
                await program.send(b"ROLLBACK TO SAVEPOINT brokerq")
            await program.send(b"RELEASE SAVEPOINT brokerq")
            await pipe.sync()
        except Exception as exc:  # noqa: BLE001 - raised once all that was sent is answered
            error = _AgainError() if isinstance(exc, transaction.again) else exc
            with suppress(psycopg.Error):  # of what came after, which was not done
                await pipe.sync()
    if error is None:
        return outcome[0]
    await _undo(program)
    raise error


def _check_status(program: Program) -> None:
    """Raise `RefusedError` where no transaction is open and none begins by itself."""
    if program.status == TransactionStatus.INERROR:
        raise RefusedError("the connection's transaction has failed: roll it back first")
    if program.status == TransactionStatus.IDLE and program.autocommit:
        raise RefusedError(
            "no transaction is open on the connection, and it commits every statement by itself: "
            "begin one first, else publish without connection="
        )


async def _undo(program: Program) -> None:
    """Undo what is in the savepoint, if its transaction is still there."""
    if program.status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
        async with program.pipeline() as pipe:
            await program.send(b"ROLLBACK TO SAVEPOINT brokerq")
            await program.send(b"RELEASE SAVEPOINT brokerq")
            await pipe.sync()


async def _run(transaction: Joined, database: Database, run: Run[T]) -> T:
    ((system, name, isolation, waiting),) = await transaction.fetch("find_place", {})
    if (system, name) != database.place:
        raise _elsewhere(name, database)
    transaction.isolation = isolation
    if isolation in _SEE_LATEST:
        transaction.again = (LostRaceError, UniqueViolation)
    unbounded = waiting == "0"
    if unbounded:
        bound = {"lock_timeout": database.options.timeouts["lock_timeout"]}
        await transaction.send("bound_lock_wait", bound)
    result = await run(transaction)
    if transaction.touched:
        payload = announcement(_SENDER, transaction.touched)
        told = {"channel": database.options.channel, "payload": payload}
        await transaction.send("notify", told)
    if unbounded:
        await transaction.send("bound_lock_wait", {"lock_timeout": 0})
    return result


def _elsewhere(name: str, database: Database) -> CapabilityError:
    assert database.place is not None  # noqa: S101 - it is open
    own = database.place[1]
    told = f"database {name!r}" if name != own else f"a database {name!r} of another server"
    return CapabilityError(
        f"the connection is to {told}, and records are kept in {database.options.place}: only a "
        "transaction in that database can publish"
    )
