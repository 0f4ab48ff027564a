"""What SQLAlchemy puts around a driver's connection is taken off; tests/engine has the real one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from brokerq.driver import async_driver_connection, driver_connection
from brokerq.errors import ConfigurationError

DRIVER = object()


@dataclass
class Raw:
    driver_connection: object = DRIVER


@dataclass
class Connection:
    begun: bool = False
    connection: Raw = field(default_factory=Raw)

    def in_transaction(self) -> bool:
        return self.begun

    def begin(self) -> None:
        self.begun = True


class Session:
    def __init__(self) -> None:
        self.used = Connection(begun=True)

    def connection(self) -> Connection:
        return self.used


@dataclass
class AsyncConnection:
    begun: bool = False
    sync_connection: Any = None

    def in_transaction(self) -> bool:
        return self.begun

    async def begin(self) -> None:
        self.begun = True

    async def get_raw_connection(self) -> Raw:
        return Raw()


@dataclass
class AsyncSession:
    sync_session: Any = None

    async def connection(self) -> AsyncConnection:
        return AsyncConnection(begun=True)


class Own:
    """As psycopg's, which is its own context for adaptation."""

    @property
    def connection(self) -> Own:
        return self


@pytest.mark.parametrize("given", [object(), Own()])
async def test_a_driver_s_own_connection_is_what_it_is(given: object) -> None:
    assert driver_connection(given) is given
    assert await async_driver_connection(given) is given


@pytest.mark.parametrize("given", [Session(), Connection(), Connection(begun=True)])
async def test_what_is_synchronous_may_be_given_to_either(given: Any) -> None:
    assert driver_connection(given) is DRIVER
    assert await async_driver_connection(given) is DRIVER


@pytest.mark.parametrize("given", [AsyncSession(), AsyncConnection(), AsyncConnection(begun=True)])
async def test_what_is_asynchronous_needs_the_asynchronous_method(given: Any) -> None:
    assert await async_driver_connection(given) is DRIVER
    with pytest.raises(ConfigurationError, match="use `await publish"):
        driver_connection(given)


async def test_a_transaction_is_begun_where_a_statement_would_begin_one() -> None:
    """Else SQLAlchemy would know of none, and its rollback would do nothing."""
    plain, other = Connection(), AsyncConnection()
    driver_connection(plain)
    await async_driver_connection(other)
    assert plain.begun
    assert other.begun
