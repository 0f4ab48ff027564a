"""Which of the messages that were sent the broker has taken."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from brokerq.errors import ConnectionLostError
from brokerq_rabbitmq.errors import ChannelRefusedError, NackedError, ReturnedError, again
from brokerq_rabbitmq.frames import FrameError


class _Sent(NamedTuple):
    done: asyncio.Future[None]
    place: tuple[str, str, str | None]


class Confirms:
    """What one channel has sent, by the number that the broker counts it with, from one on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, _Sent] = {}
        self._returned: dict[int, str] = {}
        self._last = 0
        self._lowest = 1

    def add(self, exchange: str, key: str, message_id: str | None) -> asyncio.Future[None]:
        """Note a message that is sent now; the future has what becomes of it."""
        self._last += 1
        done = self._loop.create_future()
        self._open[self._last] = _Sent(done, (exchange, key, message_id or None))
        return done

    def note_return(self, exchange: str, key: str, message_id: str | None, why: str) -> None:
        """Note what came back, which is confirmed afterwards. Raises `FrameError`.

        It is told by its id and its place. Of one message that is sent to one place twice, and not
        confirmed once, the first counts as the one that came back.
        """
        place = exchange, key, message_id
        for number, sent in self._open.items():
            if sent.place == place and number not in self._returned:
                self._returned[number] = why
                return
        raise FrameError(f"the return of a message to {key!r} that is not on its way")

    def settle(self, number: int, *, multiple: bool, taken: bool) -> None:
        """Note a confirm; `multiple`: for all before, too. Raises `FrameError`."""
        if not 0 < number <= self._last or not (multiple or number in self._open):
            raise FrameError(f"the confirm {number}, which nobody waits for")
        if multiple:
            for each in range(self._lowest, number):
                if each in self._open:
                    self._answer(each, taken=taken)
            self._lowest = max(self._lowest, number)
        if number in self._open:
            self._answer(number, taken=taken)

    def _answer(self, number: int, *, taken: bool) -> None:
        done = self._open.pop(number).done
        why = self._returned.pop(number, None)
        if done.done():  # nobody waits any more
            return
        if why is not None:
            done.set_exception(ReturnedError(why))
        elif taken:
            done.set_result(None)
        else:
            done.set_exception(NackedError("its queue is full, or cannot store it now"))

    def fail(self, error: ConnectionLostError) -> None:
        """Tell all who wait that nobody knows; if it is one message only, what was refused."""
        unknown = list(self._open.values())
        if isinstance(error, ChannelRefusedError):
            error = ChannelRefusedError(error.code, error.text, alone=len(unknown) == 1)
        self._open.clear()
        self._returned.clear()
        for sent in unknown:
            if not sent.done.done():
                sent.done.set_exception(again(error))
