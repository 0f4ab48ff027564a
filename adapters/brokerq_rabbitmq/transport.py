"""The socket beneath a connection."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

import aiormq
from aiormq.connection import TransportFactory
from yarl import URL

from brokerq_rabbitmq.options import Address, Options

_READ_AHEAD = 1024 * 1024


class Transport(TransportFactory):
    """Opens the socket so that a peer that is gone is noticed, and can be left at once."""

    def __init__(self, address: Address, options: Options) -> None:
        self._address = address
        self._options = options
        self.writer: asyncio.StreamWriter | None = None

    async def create(
        self, url: URL, **kwargs: object
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        del url, kwargs  # the address and the TLS context are known
        try:
            reader, writer = await _open_connection(self._address, self._options)
        except OSError as exc:
            raise aiormq.AMQPConnectionError(*exc.args) from exc
        _watch_peer(writer.get_extra_info("socket"), self._options.heartbeat)
        self.writer = writer
        return reader, writer


class _Writer(asyncio.StreamWriter):
    """Sends what is written in one turn of the loop together: a system call costs a message."""

    _written: list[bytes]

    def gather(self) -> None:
        """Begin to."""
        self._written = []
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Have it sent soon."""
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(bytes(data))

    def _flush(self) -> None:
        if self._written:
            data = b"".join(self._written)
            self._written.clear()
            super().write(data)

    async def drain(self) -> None:
        """Send, and wait while too much is waiting to be sent."""
        self._flush()
        await super().drain()

    def write_eof(self) -> None:
        """Send, and say that this is all."""
        self._flush()
        super().write_eof()

    def close(self) -> None:
        """Send, and close."""
        self._flush()
        super().close()


async def _open_connection(
    address: Address, options: Options
) -> tuple[asyncio.StreamReader, _Writer]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_READ_AHEAD, loop=loop)
    transport, protocol = await loop.create_connection(
        lambda: asyncio.StreamReaderProtocol(reader, loop=loop),
        address.host,
        address.port,
        ssl=options.tls,
    )
    writer = _Writer(transport, protocol, reader, loop)
    writer.gather()
    return reader, writer


def _watch_peer(sock: socket.socket, heartbeat: timedelta) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # what was sent and not acknowledged, on Linux
        patience = int(heartbeat.total_seconds() * 3_000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
