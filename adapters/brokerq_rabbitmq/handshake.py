"""How a connection begins: a socket, who we are, and what both sides agree on."""

from __future__ import annotations

import asyncio
import socket
from typing import TypeVar

from pamqp.base import Frame as Method
from pamqp.commands import Connection
from pamqp.common import FieldTable

from brokerq.errors import ConnectionLostError
from brokerq_rabbitmq import frames
from brokerq_rabbitmq.frames import MOST_FRAME, PREAMBLE
from brokerq_rabbitmq.options import Address, Options
from brokerq_rabbitmq.protocol import MOST_CHANNELS, Wire

M = TypeVar("M", bound=Method)

_CAPABILITIES: FieldTable = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "exchange_exchange_bindings": True,
    "publisher_confirms": True,
}


async def connect(address: Address, options: Options, *, name: str) -> tuple[Wire, str]:
    """Return a connection that can be used, and the broker's version.

    Raises `ConnectionLostError`, after `connect_timeout` at the latest.
    """
    wire = Wire()
    try:
        async with asyncio.timeout(options.connect_timeout.total_seconds()):
            await _open_socket(wire, address, options)
            version = await _log_in(wire, options, name)
    except TimeoutError as exc:
        wire.hang_up("no answer in time")
        raise ConnectionLostError("no answer in time") from exc
    except OSError as exc:
        wire.hang_up("its socket failed")
        raise ConnectionLostError(str(exc) or type(exc).__name__) from exc
    except BaseException:
        wire.hang_up("it was given up before it was open")
        raise
    return wire, version


async def _open_socket(wire: Wire, address: Address, options: Options) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(
        lambda: wire, address.host, address.port, ssl=options.tls
    )
    peer: socket.socket = transport.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # what was sent and not acknowledged, on Linux
        patience = int(options.heartbeat.total_seconds() * 3_000)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)


async def _log_in(wire: Wire, options: Options, name: str) -> str:
    try:
        start = await wire.ask(PREAMBLE, Connection.Start)
    except ConnectionLostError as exc:
        if options.tls is None:
            raise
        # TLS 1.3 is agreed on before the certificate is looked at; why it ends is lost at times.
        hint = "is a client certificate for TLS missing, or not accepted?"
        raise ConnectionLostError(f"{exc}: {hint}") from exc
    mechanism, response = _credentials(options)
    if mechanism not in start.mechanisms.split():
        raise ConnectionLostError(f"RabbitMQ knows no login by {mechanism}: {start.mechanisms}")
    properties: FieldTable = {
        "product": "brokerq",
        "connection_name": name,
        "capabilities": _CAPABILITIES,
    }
    tune = await _ask(
        wire, Connection.StartOk(properties, mechanism, response, "en_US"), Connection.Tune
    )
    heartbeat = int(options.heartbeat.total_seconds())
    frame_max = min(tune.frame_max or MOST_FRAME, MOST_FRAME)
    channel_max = min(tune.channel_max or MOST_CHANNELS, MOST_CHANNELS)
    wire.write(frames.method(0, Connection.TuneOk(channel_max, frame_max, heartbeat)))
    await _ask(wire, Connection.Open(options.vhost), Connection.OpenOk)
    wire.agree(frame_max=frame_max, channel_max=channel_max, heartbeat=heartbeat)
    return str((start.server_properties or {}).get("version", ""))


async def _ask(wire: Wire, method: Method, answer: type[M]) -> M:
    return await wire.ask(frames.method(0, method), answer)


def _credentials(options: Options) -> tuple[str, str]:
    """Return the name of the mechanism, and what is said: PLAIN has a zero before each of both."""
    if options.user is None:
        return "EXTERNAL", ""
    return "PLAIN", f"\0{options.user}\0{options.password}"
