"""Messages as small numbers, so that worlds compare and hash quickly."""

from functools import cache

from brokerq.message import Message
from brokerq.wire import Head, read_head

_numbers: dict[tuple[tuple[str, str], ...], int] = {}
_messages: list[Message] = []


def number_of(message: Message) -> int:
    """Return the number of the message; equal headers have equal numbers."""
    headers = tuple(sorted(message.headers.items()))
    number = _numbers.setdefault(headers, len(_messages))
    if number == len(_messages):
        _messages.append(message)
    return number


def message_of(number: int) -> Message:
    return _messages[number]


@cache
def head_of(number: int) -> Head:
    return read_head(_messages[number])
