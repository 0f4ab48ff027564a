"""Connections that come back: one link at a time, a new one when it is asked for and lost."""

from __future__ import annotations

import asyncio
import logging
from random import Random

from brokerq.errors import ConfigurationError, ConnectionLostError
from brokerq_rabbitmq.client import Link
from brokerq_rabbitmq.errors import not_open, unreachable
from brokerq_rabbitmq.options import Address, Options

logger = logging.getLogger("brokerq.rabbitmq")

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 10.0
_SOON = 1.0


class Connection:
    """One of the connections of a broker, for as long as the broker is open.

    Whoever needs it asks for its link and gets the one that works, or waits for the next: one
    attempt at a time, over all nodes in turn, with growing pauses of random length in between.

    Attributes:
        addresses: Nodes of the broker, tried in turn.
    """

    def __init__(self, options: Options, *, name: str, random: Random) -> None:
        self.addresses = options.addresses
        self._options = options
        self._name = name
        self._random = random
        self._link: Link | None = None
        self._open = False
        self._turn = asyncio.Lock()
        self._next = 0
        self._failures = 0
        self._not_before = 0.0

    def start(self) -> None:
        """Allow links."""
        self._open = True

    async def link(self) -> Link:
        """Return a link that works.

        Raises `ConnectionLostError` when no node can be reached, or when it is too early to try
        again; at once where the broker is not open.
        """
        link = self._link
        if link is not None and link.alive:
            return link
        if not self._open:
            raise not_open()
        async with self._turn:
            if not self._open:
                raise not_open()
            if self._link is None or not self._link.alive:
                await self._pause()
                self._link = await self._connect()
            return self._link

    async def _pause(self) -> None:
        """Wait until the next attempt is due, if that is soon."""
        wait = self._not_before - asyncio.get_running_loop().time()
        if wait > _SOON:
            raise ConnectionLostError(
                f"RabbitMQ could not be reached at {self._options}, the next attempt is due in "
                f"{wait:.0f} s"
            )
        if wait > 0:
            await asyncio.sleep(wait)
        if not self._open:
            raise not_open()

    async def _connect(self) -> Link:
        addresses = self.addresses
        failure: BaseException | None = None
        for _ in addresses:
            position = self._next
            self._next += 1  # also where the wait for this one is cancelled before it fails
            try:
                link = await self._try(addresses[position % len(addresses)])
            except ConnectionLostError as exc:
                failure = exc
                continue
            self._next = position
            self._failures = 0
            self._not_before = 0.0
            return link
        assert failure is not None  # noqa: S101 - there is at least one address
        self._failures += 1
        longest = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(self._failures - 1, 20))
        self._not_before = asyncio.get_running_loop().time() + longest * self._random.random()
        raise unreachable(", ".join(map(str, addresses)), failure) from failure

    async def _try(self, address: Address) -> Link:
        link = await Link.open(address, self._options, name=self._name)
        if not link.version.supported:
            await link.close()
            raise ConfigurationError(
                f"{address} is RabbitMQ {link.version.text}, brokerq needs 3.10 or newer"
            )
        if self._link is not None:
            logger.info("%s: connected to %s again", self._name, address)
        link.on_end(self._ended)
        if not self._open:
            await link.close()
            raise not_open()
        return link

    def _ended(self, error: BaseException) -> None:
        if self._open:
            logger.warning("%s: the connection was lost: %s", self._name, error)

    async def close(self) -> None:
        """Disconnect; whoever waits for a link gets an error."""
        self._open = False
        link, self._link = self._link, None
        if link is not None:
            await link.close()
