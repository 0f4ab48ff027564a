"""Publishes with confirms: many at a time, each until a deadline, again where nobody knows."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from brokerq.errors import BrokerqError, ConnectionLostError
from brokerq_rabbitmq.client import Channel
from brokerq_rabbitmq.connection import Connection
from brokerq_rabbitmq.errors import (
    ACCESS_REFUSED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    ChannelRefusedError,
    NackedError,
    NotOpenError,
    ReturnedError,
)
from brokerq_rabbitmq.wire import HeaderTable

WINDOW = 500
"""Messages that one broker object has sent and not seen confirmed."""
_PAUSE = 0.2
_FINAL = frozenset({ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED})
"""What the broker says when it closes the channel because of a message: no such exchange, no right
to send there, too large."""

_Flight = deque[tuple[int, asyncio.Future[None]]]
"""Positions that were sent, and what will become of each, in the order of sending."""


class Parcel(NamedTuple):
    """A message as it is sent. The exchange without a name leads to the queue that the key names.

    Attributes:
        id: The broker's `message_id`.
    """

    exchange: str
    key: str
    id: str | None
    headers: HeaderTable
    body: bytes


@dataclass(slots=True)
class Outcome:
    """What became of parcels, by position; those not named are confirmed.

    Attributes:
        failed: Definitely not taken, and why.
        unknown: Sent at least once, and nobody knows; why.
        returned: Those of `failed` that no queue takes.
    """

    failed: dict[int, str] = field(default_factory=dict[int, str])
    unknown: dict[int, str] = field(default_factory=dict[int, str])
    returned: set[int] = field(default_factory=set[int])

    def taken(self, position: int) -> bool:
        """Tell whether the broker has taken responsibility."""
        return position not in self.failed and position not in self.unknown


@dataclass(slots=True)
class _Shared:
    """A channel that all use who send at the same time.

    Attributes:
        users: How many do now.
        stale: Whether confirms were given up on it, which may never come: nobody else uses it.
    """

    channel: Channel
    users: int = 0
    stale: bool = False

    @property
    def usable(self) -> bool:
        """Whether someone else may send on it."""
        return self.channel.alive and not self.stale


class Publisher:
    """Sends parcels over one connection.

    What may break a channel, an exchange that is gone, has one of its own.
    """

    def __init__(self, connection: Connection, *, timeout: float, random: Random) -> None:
        self._connection = connection
        self._timeout = timeout
        self._random = random
        self._channels: dict[bool, _Shared] = {}
        self._opening = asyncio.Lock()
        self._window = asyncio.Semaphore(WINDOW)

    async def send(self, parcels: Sequence[Parcel]) -> Outcome:
        """Return what became of each parcel, at the latest when the timeout is over.

        Where nobody knows the parcel is sent again, under the same id, while there is time.
        """
        outcome = Outcome()
        deadline = asyncio.get_running_loop().time() + self._timeout
        direct = [n for n, parcel in enumerate(parcels) if not parcel.exchange]
        delayed = [n for n, parcel in enumerate(parcels) if parcel.exchange]
        sends = [
            self._send(parcels, group, outcome, deadline, on_ladder=on_ladder)
            for group, on_ladder in ((direct, False), (delayed, True))
            if group
        ]
        if len(sends) == 1:
            await sends[0]
        else:
            await asyncio.gather(*sends)
        return outcome

    async def _send(
        self,
        parcels: Sequence[Parcel],
        positions: list[int],
        outcome: Outcome,
        deadline: float,
        *,
        on_ladder: bool,
    ) -> None:
        sending = _Sending(parcels, positions, outcome)
        try:
            async with asyncio.timeout_at(deadline):
                while sending.left:
                    try:
                        if sending.refused:
                            await self._apart(sending)
                        else:
                            shared = await self._shared(on_ladder=on_ladder)
                            await self._together(shared, sending)
                    except NotOpenError:
                        raise
                    except ConnectionLostError as exc:
                        sending.why = str(exc)
                    if sending.left:
                        await asyncio.sleep(_PAUSE * (0.5 + self._random.random()))
        except TimeoutError:
            sending.give_up(f"not confirmed within {self._timeout:g} s")
        except BrokerqError as exc:
            sending.give_up(str(exc))

    async def _shared(self, *, on_ladder: bool) -> _Shared:
        link = await self._connection.link()
        await link.until_unblocked()
        shared = self._channels.get(on_ladder)
        if shared is not None and shared.usable:
            return shared
        async with self._opening:
            shared = self._channels.get(on_ladder)
            if shared is None or not shared.usable:
                shared = _Shared(await link.channel(confirms=True))
                self._channels[on_ladder] = shared
        return shared

    async def _together(self, shared: _Shared, sending: _Sending) -> None:
        """Send what is left on the channel that others use; the last one leaves a stale one."""
        shared.users += 1
        try:
            await self._once(shared.channel, sending, sending.begin())
        except BaseException:
            shared.stale = True
            raise
        finally:
            shared.users -= 1
            if shared.stale and not shared.users:
                shared.channel.leave()

    async def _apart(self, sending: _Sending) -> None:
        """Send what is left where it can close the channel on nobody else.

        What was on its way when a channel was closed goes alone: the broker does not say which
        message it has refused. The channel is for this pass only.
        """
        link = await self._connection.link()
        await link.until_unblocked()
        channel = await link.channel(confirms=True)
        try:
            for group in sending.begin_apart():
                still = [position for position in group if position in sending.left]
                if not still:
                    continue
                if not channel.alive:
                    channel = await link.channel(confirms=True)
                await self._once(channel, sending, still)
        finally:
            channel.leave()

    async def _once(self, channel: Channel, sending: _Sending, positions: Sequence[int]) -> None:
        """Send what is left of these; what is still left afterwards has met a loss."""
        flight: _Flight = deque()
        try:
            for position in positions:
                while flight and self._window.locked():
                    await self._land(flight, sending)
                await self._window.acquire()
                try:
                    await channel.until_ready()
                    confirm = _publish(channel, sending.parcels[position])
                except BaseException:
                    self._window.release()
                    raise
                flight.append((position, confirm))
                sending.sent(position)
            while flight:
                await self._land(flight, sending)
        finally:
            for position, confirm in flight:
                self._window.release()
                if not confirm.cancel():
                    sending.answered(position, confirm.exception())

    async def _land(self, flight: _Flight, sending: _Sending) -> None:
        """Wait for the confirm that is longest on its way."""
        position, confirm = flight[0]
        if not confirm.done():
            await asyncio.wait([confirm])
        flight.popleft()
        self._window.release()
        sending.answered(position, confirm.exception())


def _publish(channel: Channel, parcel: Parcel) -> asyncio.Future[None]:
    return channel.publish(
        exchange=parcel.exchange,
        key=parcel.key,
        message_id=parcel.id,
        headers=parcel.headers,
        body=parcel.body,
    )


class _Sending:
    """One group of parcels on its way.

    Attributes:
        left: Positions that have no answer yet.
        why: What happened last to those.
        refused: Whether the broker has closed a channel because of one of those, or of another's.
    """

    def __init__(
        self, parcels: Sequence[Parcel], positions: Sequence[int], outcome: Outcome
    ) -> None:
        self.parcels = parcels
        self.left = dict.fromkeys(positions)
        self.why = ""
        self.refused = False
        self._outcome = outcome
        self._sent: set[int] = set()
        self._lost: set[int] = set()

    def begin(self) -> list[int]:
        """Return the positions of a new pass; what the last one sent may have been taken."""
        self._lost |= self._sent
        self._sent.clear()
        return list(self.left)

    def begin_apart(self) -> list[list[int]]:
        """Return the same in groups: each that may have been taken alone, then all others."""
        left = self.begin()
        alone = [[position] for position in left if position in self._lost]
        return [*alone, [position for position in left if position not in self._lost]]

    def sent(self, position: int) -> None:
        """Note that the broker may get it from now on."""
        self._sent.add(position)

    def answered(self, position: int, error: BaseException | None) -> None:
        """Note what the broker, or the loss of the channel, says of it."""
        match error:
            case None:
                self._sent.discard(position)
                del self.left[position]
            case NackedError():
                self._refused(position, str(error))
            case ReturnedError():
                self._refused(position, "no queue takes it", returned=True)
            case ChannelRefusedError(code=code, text=text, alone=alone) if code in _FINAL:
                self.refused = True
                self.why = str(error)
                if alone:
                    self._refused_channel(position, code, text)
            case _:
                self.why = str(error)

    def _refused_channel(self, position: int, code: int, text: str) -> None:
        """Note a refusal of this one; an exchange that is gone refuses all that are for it.

        Not those that were sent in this pass: they have answers of their own.
        """
        self._refused(position, text)
        exchange = self.parcels[position].exchange
        if code == NOT_FOUND and f"'{exchange}'" in text:
            for each in self.left.keys() - self._sent:
                if self.parcels[each].exchange == exchange:
                    self._refused(each, text)

    def _refused(self, position: int, why: str, *, returned: bool = False) -> None:
        """Note that the broker has not taken it this time."""
        self._sent.discard(position)
        del self.left[position]
        if position in self._lost:
            self._outcome.unknown[position] = why
        else:
            self._outcome.failed[position] = why
            if returned:
                self._outcome.returned.add(position)

    def give_up(self, why: str) -> None:
        """Note that time is over."""
        reason = f"{why}: {self.why}" if self.why else why
        for position in self.left:
            was_sent = position in self._sent or position in self._lost
            (self._outcome.unknown if was_sent else self._outcome.failed)[position] = reason
        self.left.clear()
