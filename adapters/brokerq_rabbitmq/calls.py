"""Questions to the broker, which it answers one after the other."""

from __future__ import annotations

import asyncio
from collections import deque

from pamqp.base import Frame as Method

from brokerq.errors import ConnectionLostError
from brokerq_rabbitmq.errors import again
from brokerq_rabbitmq.frames import FrameError


class Calls:
    """What was asked on one channel, and is not answered yet.

    Who does not wait any more for an answer leaves it in its turn.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked: deque[tuple[asyncio.Future[object], tuple[type[Method], ...]]] = deque()

    def expect(self, *kinds: type[Method]) -> asyncio.Future[object]:
        """Note what is asked now; the future has what comes with a method of one of these kinds."""
        answer: asyncio.Future[object] = self._loop.create_future()
        self._asked.append((answer, kinds))
        return answer

    def check(self, method: Method) -> None:
        """Raise `FrameError` for a method that is not the next answer."""
        if not self._asked or not isinstance(method, self._asked[0][1]):
            raise FrameError(f"{method.name}, which was not asked for")

    def answer(self, method: Method, value: object) -> None:
        """Hand what came with an answer to who waits for it. Raises `FrameError`."""
        self.check(method)
        answer, _ = self._asked.popleft()
        if not answer.done():
            answer.set_result(value)

    def fail(self, error: ConnectionLostError) -> None:
        """Tell all who wait that there will be no answer."""
        asked = [answer for answer, _ in self._asked]
        self._asked.clear()
        for answer in asked:
            if not answer.done():
                answer.set_exception(again(error))
