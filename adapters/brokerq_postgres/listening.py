"""How a process that waits for messages learns that there are some: LISTEN, and bells.

Whoever commits messages rings the bells of its own process and notifies the others, in a statement
of its own after the commit: a notification in the same transaction would make all commits wait for
each other. Only where the commit is the program's own is it in the transaction. What is lost so
only delays a message until the waiting consumer looks by itself.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping

import psycopg
from psycopg import sql

from brokerq.errors import BrokerqError
from brokerq.sql.bell import LaneBell
from brokerq_postgres.connection import connect
from brokerq_postgres.options import Options

logger = logging.getLogger("brokerq.postgres")

_LONGEST_PAYLOAD = 7_900  # PostgreSQL takes less than 8,000 bytes
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_ALL = "*"

Tell = Callable[[str], Awaitable[object]]


class Wakeup:
    """The bells of one process, and what it says to the other ones."""

    def __init__(self, options: Options, tell: Tell) -> None:
        self._options = options
        self._tell = tell
        self._me = secrets.token_hex(4)
        self._bells: dict[int, list[LaneBell]] = {}
        self._listening: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._untold: dict[int, float] = {}

    def add(self, lane: int, bell: LaneBell) -> None:
        """Ring the bell for the lane from now on."""
        self._bells.setdefault(lane, []).append(bell)
        if self._listening is None and self._options.direct is not None:
            self._listening = asyncio.create_task(self._listen(), name="brokerq listen")

    def remove(self, lane: int, bell: LaneBell) -> None:
        """Ring it no more."""
        bells = self._bells[lane]
        bells.remove(bell)
        if not bells:
            del self._bells[lane]

    def announce(self, touched: Mapping[int, float]) -> None:
        """Tell everybody in which lanes there is something, and in how many seconds."""
        if not touched:
            return
        self._ring(touched)
        loop = asyncio.get_running_loop()
        for lane, seconds in touched.items():
            at = loop.time() + seconds
            if at < self._untold.get(lane, at + 1):
                self._untold[lane] = at
        if self._telling is None:
            self._telling = loop.create_task(self._tell_others(), name="brokerq notify")

    async def close(self) -> None:
        """Say what is left to say, and stop."""
        tasks = [task for task in (self._listening, self._telling) if task is not None]
        if self._listening is not None:
            self._listening.cancel()
        self._listening = None
        if tasks:
            await asyncio.wait(tasks)

    def _ring(self, touched: Mapping[int, float]) -> None:
        for lane, seconds in touched.items():
            for bell in self._bells.get(lane, ()):
                bell.ring(seconds)

    def _ring_all(self) -> None:
        self._ring(dict.fromkeys(self._bells, 0.0))

    async def _tell_others(self) -> None:
        """Send what there is to say; what comes meanwhile goes into the next notification."""
        now = asyncio.get_running_loop().time
        try:
            while self._untold:
                untold, self._untold = self._untold, {}
                touched = {lane: at - now() for lane, at in untold.items()}
                await self._tell(announcement(self._me, touched))
        except BrokerqError as exc:
            logger.debug("others were not notified, and look by themselves: %s", exc)
        finally:
            self._telling = None

    async def _listen(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._listen_once()
                pause = _FIRST_PAUSE
            except (psycopg.Error, BrokerqError) as exc:
                logger.warning("no notifications for now, waiting consumers poll: %s", exc)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _listen_once(self) -> None:
        options = self._options
        assert options.direct is not None  # noqa: S101 - or nobody listens
        connection = await connect(options, options.direct)
        try:
            channel = sql.Identifier(options.channel)
            await connection.execute(sql.SQL("LISTEN {}").format(channel))
            self._ring_all()  # what was said before that was not heard
            async for notification in connection.notifies():
                self._hear(notification.payload)
        finally:
            await connection.close()

    def _hear(self, payload: str) -> None:
        sender, _, entries = payload.partition(":")
        if sender == self._me:
            return
        touched = _read(entries)
        if touched is None:
            self._ring_all()
        else:
            self._ring(touched)


def announcement(sender: str, touched: Mapping[int, float]) -> str:
    """Return a notification: in which lanes there is something, and in how many seconds."""
    entries = (f"{lane},{max(0, round(seconds * 1000))}" for lane, seconds in touched.items())
    payload = f"{sender}:{';'.join(entries)}"
    return payload if len(payload) <= _LONGEST_PAYLOAD else f"{sender}:{_ALL}"


def _read(entries: str) -> dict[int, float] | None:
    """Return the lanes and seconds; None: whatever there is."""
    try:
        pairs = [entry.split(",") for entry in entries.split(";")]
        return {int(lane): int(millis) / 1000 for lane, millis in pairs}
    except ValueError:
        return None
