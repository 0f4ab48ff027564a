"""Handlers that work in a database transaction of the program's: its commit records the success.

Effect and record are one commit, so a worker killed at any point leaves both or neither. Where the
record cannot be written, as the job has another owner by now, the transaction is rolled back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from brokerq.driver import async_driver_connection, driver_connection
from brokerq.engine.run import Run
from brokerq.errors import CapabilityError, ConfigurationError
from brokerq.runtime import Runtime
from brokerq.store import Finish, Transactional


class LeaseLostError(Exception):
    """The job has another owner: what its handler did is rolled back, and counts for nothing."""

    def __init__(self) -> None:
        super().__init__("the job's lease was lost before its transaction could be committed")


def transactions_of(
    runtime: Runtime, *, success: Callable[[Run], Finish], encode: Callable[[Run, object], None]
) -> Transactions | None:
    """Return what runs such handlers; None where the app has none.

    Raises `CapabilityError` where the store cannot write in the program's transactions.
    """
    wanting = [job.name for job in runtime.registry.jobs.values() if job.transaction is not None]
    if not wanting:
        return None
    store: object = runtime.store
    if not isinstance(store, Transactional):
        raise CapabilityError(
            f"job {wanting[0]!r} records its success in a database transaction of its own "
            "(transaction=): that needs a store which keeps its records in that database, "
            "sqlite:///... or postgresql://..."
        )
    return Transactions(store, success=success, encode=encode)


class Transactions:
    """Opens the transactions; each is used where the handler runs, loop or thread."""

    def __init__(
        self,
        store: Transactional,
        *,
        success: Callable[[Run], Finish],
        encode: Callable[[Run, object], None],
    ) -> None:
        """Make it of a store.

        Args:
            store: Where the records are.
            success: Returns what is to be recorded of a run that has succeeded.
            encode: Keeps a run's result.
        """
        self._store = store
        self._success = success
        self._encode = encode

    async def call(self, run: Run, handler: Callable[[], Awaitable[object]]) -> object:
        """Call a coroutine handler, and commit."""
        transaction = _open(run)
        if not isinstance(transaction, AbstractAsyncContextManager):
            with transaction as session:
                result = await self._finish(run, session, handler)
        else:
            async with transaction as session:
                result = await self._finish(run, session, handler)
        run.committed = True
        return result

    async def _finish(
        self, run: Run, session: object, handler: Callable[[], Awaitable[object]]
    ) -> object:
        _give(run, session)
        result = await handler()
        self._encode(run, result)
        driver = await async_driver_connection(session)
        if await self._store.join_finish(driver, self._success(run)) is None:
            raise LeaseLostError
        return result

    def call_plain(self, run: Run, handler: Callable[[], object]) -> object:
        """Call a handler that is no coroutine, and commit; all in this thread."""
        transaction = _open(run)
        if isinstance(transaction, AbstractAsyncContextManager):
            raise ConfigurationError(
                f"job {run.head.job!r}: its transaction= is async, and the handler is not: write "
                "`async def`, or give a transaction that is not async"
            )
        with transaction as session:
            _give(run, session)
            result = handler()
            self._encode(run, result)
            driver = driver_connection(session)
            if self._store.join_finish_sync(driver, self._success(run)) is None:
                raise LeaseLostError
        run.committed = True
        return result


def _open(run: Run) -> AbstractAsyncContextManager[Any] | AbstractContextManager[Any]:
    definition = run.definition
    assert definition is not None  # noqa: S101 - only known jobs are started
    assert definition.transaction is not None  # noqa: S101 - asked before
    return definition.transaction()


def _give(run: Run, session: object) -> None:
    assert run.context is not None  # noqa: S101 - such a handler asks for its context
    run.context.session = session
