"""Messages put together from the frames in which they come. Pure."""

from __future__ import annotations

from collections.abc import Callable

from brokerq_rabbitmq.frames import Content, FrameError, read_content
from brokerq_rabbitmq.wire import Received

OnMessage = Callable[[Received], None]


class Assembly:
    """One message at a time, as a channel has it: a method, a header, and no or some bodies."""

    def __init__(self) -> None:
        self._sink: OnMessage | None = None
        self._tag = 0
        self._content: Content | None = None
        self._pieces: list[bytes] = []
        self._left = 0

    @property
    def busy(self) -> bool:
        """Whether a message has begun that is not complete."""
        return self._sink is not None

    def begin(self, tag: int, sink: OnMessage) -> None:
        """Have the message that comes now handed to `sink` when it is complete."""
        self._tag, self._sink = tag, sink

    def add_header(self, payload: bytes) -> None:
        """Take the content header. Raises `FrameError`."""
        if self._sink is None or self._content is not None:
            raise FrameError("a content header where none is due")
        self._content = read_content(payload)
        self._left = self._content.size
        if not self._left:
            self._complete(self._content, self._sink, b"")

    def add_body(self, payload: bytes) -> None:
        """Take a part of the body. Raises `FrameError`."""
        if self._sink is None or self._content is None:
            raise FrameError("a body where none is due")
        self._left -= len(payload)
        if self._left < 0:
            raise FrameError(f"a body that is longer than the {self._content.size} bytes announced")
        if self._left:
            self._pieces.append(payload)
        elif self._pieces:
            self._pieces.append(payload)
            self._complete(self._content, self._sink, b"".join(self._pieces))
        else:
            self._complete(self._content, self._sink, payload)

    def _complete(self, content: Content, sink: OnMessage, body: bytes) -> None:
        self._sink = self._content = None
        self._pieces.clear()
        sink(Received(self._tag, content.id, content.headers, body, content.reply_to))
