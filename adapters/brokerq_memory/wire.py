"""What the memory broker reads of a message: its size, and which letter it is. Pure."""

from __future__ import annotations

from brokerq.broker import Outgoing
from brokerq.errors import BodyTooLargeError
from brokerq.message import Message

MAX_BODY = 1024 * 1024
_WIDEST = 4  # bytes of the longest character in UTF-8


def check_size(position: int, outgoing: Outgoing) -> None:
    """Raise `BodyTooLargeError` if headers and body are more than the broker takes."""
    message = outgoing.message
    headers = message.headers
    body = len(message.body)
    # Most messages are far too small to be counted exactly.
    if body + _WIDEST * (sum(map(len, headers)) + sum(map(len, headers.values()))) <= MAX_BODY:
        return
    size = body + sum(_width(name) + _width(text) for name, text in headers.items())
    if size > MAX_BODY:
        raise BodyTooLargeError(
            f"message {position} ({outgoing.id}) has {size} bytes of headers and body, "
            f"memory:// takes {MAX_BODY}: send a reference to the data instead"
        )


def _width(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def own_copy(message: Message) -> Message:
    """Return a message that its sender can no longer change."""
    return Message(headers=dict(message.headers), body=message.body)


def letter_key(message: Message) -> tuple[str | None, int]:
    """Return the job id and epoch that a dead letter is known by."""
    epoch = message.headers.get("bq-epoch", "0")
    return message.headers.get("bq-id"), int(epoch) if epoch.isdecimal() else 0
