"""From what a program holds to its driver's own connection.

SQLAlchemy's sessions and connections are known by what they offer; anything else is taken to be the
driver's. Some drivers' have a `connection` too, which is themselves.
"""

from __future__ import annotations

from typing import Any, cast

from brokerq.errors import ConfigurationError


def driver_connection(given: Any) -> object:
    """Return the connection beneath; a session that has none yet is given one.

    Raises `ConfigurationError` for an asynchronous session or connection.
    """
    if hasattr(given, "sync_session") or hasattr(given, "sync_connection"):
        raise ConfigurationError(
            "the connection is asynchronous: use `await publish(...)`, not publish_sync"
        )
    connection: Any = getattr(given, "connection", None)
    if connection is None or connection is given:
        return cast("object", given)
    if callable(connection):  # a session's, which begins a transaction
        given = connection()
    elif not given.in_transaction():  # as its first statement would; else it would not roll back
        given.begin()
    return cast("object", given.connection.driver_connection)


async def async_driver_connection(given: Any) -> object:
    """As `driver_connection`, for asynchronous sessions and connections too."""
    if hasattr(given, "sync_session"):
        given = await given.connection()
    if not hasattr(given, "sync_connection"):
        return driver_connection(given)
    if not given.in_transaction():
        await given.begin()
    raw: Any = await given.get_raw_connection()
    return cast("object", raw.driver_connection)
