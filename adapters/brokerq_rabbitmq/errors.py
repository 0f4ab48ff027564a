"""What can go wrong with RabbitMQ, and what to do."""

from __future__ import annotations

from brokerq.errors import ConnectionLostError

NOT_FOUND = 404
LOCKED = 405
PRECONDITION_FAILED = 406
ACCESS_REFUSED = 403


class ChannelRefusedError(ConnectionLostError):
    """The broker has closed one channel because of what was asked on it; others are not touched.

    Attributes:
        code: As in HTTP: 403 no permission, 404 missing, 405 locked, 406 other than declared.
        text: What the broker says.
        alone: Whether one message only was not confirmed: it is the one that was refused.
    """

    def __init__(self, code: int, text: str, *, alone: bool = False) -> None:
        super().__init__(f"RabbitMQ closed the channel: {code} {text}")
        self.code = code
        self.text = text
        self.alone = alone


class NotOpenError(ConnectionLostError):
    """This side has closed the broker, or not opened it: trying again is no use."""


class NackedError(Exception):
    """The broker has not taken a message: its queue is full, or it is too large."""


class ReturnedError(Exception):
    """No queue takes a message, and the broker sent it back."""


def again(error: ConnectionLostError) -> ConnectionLostError:
    """Return the same error for one more who waits: one raised twice has both tracebacks."""
    if isinstance(error, ChannelRefusedError):
        return ChannelRefusedError(error.code, error.text, alone=error.alone)
    return ConnectionLostError(str(error))


def not_open() -> NotOpenError:
    """Return the error of a use before `open`, or after `close`."""
    return NotOpenError("the RabbitMQ broker is not open: call open() first")


def consumer_closed() -> ConnectionLostError:
    """Return the error of a use of a consumer that was left."""
    return ConnectionLostError("the consumer is closed, or its broker is: open a new one")


def unreachable(hosts: str, exc: BaseException) -> ConnectionLostError:
    """Return the error of a broker that none of the URL's hosts leads to."""
    why = str(exc) or type(exc).__name__
    return ConnectionLostError(f"RabbitMQ cannot be reached at {hosts}: {why}")
