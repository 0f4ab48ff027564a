"""Just enough of an HTTP client for the demo's handler; one connection per call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.parser import BytesHeaderParser
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the service said.

    Attributes:
        retry_after: None: it gave none.
    """

    status: int
    retry_after: timedelta | None = None


async def post(url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
    """Post to an `http://` URL. Raises `OSError`, or `EOFError` where the answer breaks off.

    Cancelling closes the connection, so a handler's timeout reaches the service too.
    """
    place = urlsplit(url)
    lines = [
        f"POST {place.path} HTTP/1.1",
        f"Host: {place.netloc}",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        return _read(await reader.readuntil(b"\r\n\r\n"))
    finally:
        writer.close()


def _read(head: bytes) -> Answer:
    first, _, rest = head.partition(b"\r\n")
    wait = BytesHeaderParser().parsebytes(rest).get("Retry-After")
    return Answer(
        status=int(first.split()[1]),
        retry_after=timedelta(seconds=int(wait)) if wait and wait.isdecimal() else None,
    )
