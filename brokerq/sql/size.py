"""How large a message is, and what is too large. Pure."""

from __future__ import annotations

from brokerq.broker import Outgoing
from brokerq.errors import BodyTooLargeError


def check(position: int, outgoing: Outgoing, *, limit: int, scheme: str) -> None:
    """Raise `BodyTooLargeError` if headers and body are more bytes than the broker takes."""
    message = outgoing.message
    headers = message.headers
    size = len(message.body) + sum(_width(name) + _width(text) for name, text in headers.items())
    if size > limit:
        raise BodyTooLargeError(
            f"message {position} ({outgoing.id}) has {size} bytes of headers and body, "
            f"{scheme}:// takes {limit}: send a reference to the data instead"
        )


def _width(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
