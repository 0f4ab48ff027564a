"""Frames of AMQP 0-9-1: taken apart and put together. Pure.

pamqp knows all methods. The few that are said for each message are packed and unpacked here, as
that costs a tenth.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Generator, Mapping
from functools import lru_cache
from typing import NamedTuple

from pamqp import frame
from pamqp.base import Frame as Method
from pamqp.commands import INDEX_MAPPING, Basic
from pamqp.exceptions import PAMQPException

from brokerq_rabbitmq.tables import read_table, short, write_table

logger = logging.getLogger("brokerq.rabbitmq")

PREAMBLE = b"AMQP\x00\x00\x09\x01"
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
MOST_FRAME = 131_072
"""Bytes of a frame, its ends included, that this side takes: RabbitMQ's own setting."""
OVERHEAD = 8
"""Bytes of the ends of a frame."""

METHOD, HEADER, BODY, BEAT = 1, 2, 3, 8
DELIVER = 0x003C_003C
ACK = 0x003C_0050
NACK = 0x003C_0078
_PUBLISH = 0x003C_0028
_GET_OK = 0x003C_0047
_BASIC = 60
_END = 0xCE
_ENDING = b"\xce"
_MULTIPLE = 1
_REQUEUE = 2
_PERSISTENT = b"\x02"

_HEAD = struct.Struct(">BHI")
_INDEX = struct.Struct(">I")
_TAG = struct.Struct(">Q")
_SETTLE = struct.Struct(">BHIIQBB")
_CONFIRM = struct.Struct(">IQB")
_CONTENT = struct.Struct(">HHQH")
_PUBLISHED = struct.Struct(">BHIHHQH")

_HEADERS = 0x2000
_MODE = 0x1000
_REPLY_TO = 0x0200
_ID = 0x0080
_USUAL = _HEADERS | _MODE | _ID
# All properties in their order: how many bytes each has; None: a short string.
_LENGTHS = (
    (0x8000, None),
    (0x4000, None),
    (_HEADERS, 0),
    (_MODE, 1),
    (0x0800, 1),
    (0x0400, None),
    (_REPLY_TO, None),
    (0x0100, None),
    (_ID, None),
    (0x0040, 8),
    (0x0020, None),
    (0x0010, None),
    (0x0008, None),
    (0x0004, None),
)

_BROKEN = (IndexError, ValueError, ArithmeticError, RecursionError, struct.error, PAMQPException)


class FrameError(Exception):
    """What the peer has sent is no AMQP 0-9-1, or not its turn."""


Frame = tuple[int, int, bytes]
"""Its kind, the number of its channel (zero: it concerns the connection) and what is in it."""


class Content(NamedTuple):
    """What stands in a content header of the message that follows.

    Attributes:
        size: Bytes of the body.
    """

    size: int
    id: str | None
    headers: Mapping[str, object]
    reply_to: str | None


class Splitter:
    """Takes a stream apart, in whatever pieces it comes.

    Attributes:
        limit: Bytes of the longest frame that may come.
    """

    def __init__(self) -> None:
        self.limit = MOST_FRAME
        self._rest = bytearray()
        self._wanted = OVERHEAD

    def feed(self, data: bytes) -> Generator[Frame]:
        """Yield the frames that are complete with this piece. Raises `FrameError`."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, end = 0, len(data)
        self._wanted = OVERHEAD
        while end - at >= OVERHEAD:
            kind, number, size = _HEAD.unpack_from(data, at)
            if kind not in (METHOD, HEADER, BODY, BEAT):
                raise FrameError(f"a frame of the unknown type {kind}")
            if size + OVERHEAD > self.limit:
                raise FrameError(f"a frame of {size} bytes, {self.limit - OVERHEAD} are agreed on")
            stop = at + 7 + size
            if stop >= end:
                self._wanted = size + OVERHEAD
                break
            if data[stop] != _END:
                raise FrameError(f"a frame of {size} bytes that does not end there")
            yield kind, number, data[at + 7 : stop]
            at = stop + 1
        self._rest += data[at:]


def index_of(payload: bytes) -> int:
    """Return which method a payload is. Raises `FrameError`."""
    try:
        index: int = _INDEX.unpack_from(payload)[0]
    except struct.error as exc:
        raise FrameError(f"a method frame of {len(payload)} bytes") from exc
    return index


def read_method(payload: bytes) -> Method:
    """Return a method. Raises `FrameError`."""
    index = index_of(payload)
    kind = INDEX_MAPPING.get(index)
    if kind is None:
        raise FrameError(f"the unknown method {index >> 16}.{index & 0xFFFF}")
    method: Method = kind()
    try:
        if index == _GET_OK:
            return _read_got(payload)
        method.unmarshal(payload[4:])
    except _BROKEN as exc:
        raise FrameError(f"{method.name} that cannot be read: {exc!r}") from exc
    return method


def _read_got(payload: bytes) -> Basic.GetOk:
    """Return what comes before a message; its key may be anything that a program has sent."""
    tag = _TAG.unpack_from(payload, 4)[0]
    start = 14 + payload[13]
    stop = start + 1 + payload[start]
    exchange, key = _read_text(payload[14:start]), _read_text(payload[start + 1 : stop])
    count = _INDEX.unpack_from(payload, stop)[0]
    return Basic.GetOk(tag, bool(payload[12] & 1), exchange, key, count)


def read_deliver(payload: bytes) -> tuple[bytes, int]:
    """Return the consumer's tag and the message's. Raises `FrameError`."""
    try:
        stop = 5 + payload[4]
        tag: int = _TAG.unpack_from(payload, stop)[0]
    except (IndexError, struct.error) as exc:
        raise FrameError("Basic.Deliver that is cut off") from exc
    return payload[5:stop], tag


def read_confirm(payload: bytes) -> tuple[int, bool]:
    """Return the tag of an ack or a nack, and whether all before are meant, too."""
    try:
        _, tag, bits = _CONFIRM.unpack_from(payload)
    except struct.error as exc:
        raise FrameError("a confirm that is cut off") from exc
    return tag, bool(bits & _MULTIPLE)


def read_content(payload: bytes) -> Content:
    """Return what a content header says. Raises `FrameError`: it has no such structure.

    Any program may have sent the message, and others come over the same connection: an id that is
    no UTF-8 is read as far as it is, and headers that cannot be read are none.
    """
    try:
        kind, _, size, flags = _CONTENT.unpack_from(payload)
        if kind != _BASIC or flags & 1:
            raise FrameError(f"a content header of class {kind}")
        if flags == _USUAL:
            start = 18
            end = start + _INDEX.unpack_from(payload, 14)[0]
            headers = _read_headers(payload, start, end)
            if end + 2 + payload[end + 1] == len(payload):
                return Content(size, _read_text(payload[end + 2 :]) or None, headers, None)
        return _read_properties(payload, size, flags)
    except _BROKEN as exc:
        raise FrameError(f"a content header that cannot be read: {exc!r}") from exc


def _read_properties(payload: bytes, size: int, flags: int) -> Content:
    headers: Mapping[str, object] = {}
    texts: dict[int, str] = {}
    at = _CONTENT.size
    for flag, length in _LENGTHS:
        if not flags & flag:
            continue
        if flag == _HEADERS:
            start = at + 4
            at = start + _INDEX.unpack_from(payload, at)[0]
            headers = _read_headers(payload, start, at)
        elif length is None:
            start, at = at + 1, at + 1 + payload[at]
            if flag in (_REPLY_TO, _ID):
                texts[flag] = _read_text(payload[start:at])
        else:
            at += length
    if at != len(payload):
        raise ValueError("properties that are longer or shorter than they say")
    return Content(size, texts.get(_ID) or None, headers, texts.get(_REPLY_TO))


def _read_headers(payload: bytes, start: int, end: int) -> Mapping[str, object]:
    if end > len(payload):
        raise ValueError("headers that are cut off")
    try:
        return read_table(payload, start, end)
    except _BROKEN as exc:
        logger.warning("a message has come whose headers cannot be read: %r", exc)
        return {}


def _read_text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def method(number: int, method: Method) -> bytes:
    """Return the frame of a method. Raises `ValueError` for what cannot be said."""
    try:
        return frame.marshal(method, number)
    except TypeError as exc:
        raise ValueError(f"{method.name}: {exc}") from exc


def ack(number: int, tag: int, *, multiple: bool) -> bytes:
    """Return the frame that acknowledges."""
    return _SETTLE.pack(METHOD, number, 13, ACK, tag, multiple, _END)


def nack(number: int, tag: int, *, multiple: bool) -> bytes:
    """Return the frame that gives back."""
    return _SETTLE.pack(METHOD, number, 13, NACK, tag, _REQUEUE | multiple, _END)


@lru_cache(maxsize=1024)
def publish(number: int, exchange: str, key: str, *, mandatory: bool) -> bytes:
    """Return the first frame of a message: where it goes. Raises `ValueError`."""
    payload = b"".join((
        _INDEX.pack(_PUBLISH), b"\x00\x00", short(exchange), short(key), bytes((mandatory,))
    ))  # fmt: skip
    return b"".join((_HEAD.pack(METHOD, number, len(payload)), payload, _ENDING))


def content(number: int, message_id: str | None, headers: Mapping[str, object], size: int) -> bytes:
    """Return the second frame of a persistent message. Raises `TypeError` and `ValueError`."""
    flags, known = _HEADERS | _MODE, b""
    if message_id is not None:
        flags, known = _USUAL, short(message_id)
    table = write_table(headers)
    length = 14 + len(table) + 1 + len(known)
    head = _PUBLISHED.pack(HEADER, number, length, _BASIC, 0, size, flags)
    return b"".join((head, table, _PERSISTENT, known, _ENDING))


def brief(number: int, reply_to: str | None, size: int) -> bytes:
    """Return the second frame of a message that may get lost. Raises `ValueError`."""
    flags, known = (0, b"") if reply_to is None else (_REPLY_TO, short(reply_to))
    head = _PUBLISHED.pack(HEADER, number, 14 + len(known), _BASIC, 0, size, flags)
    return b"".join((head, known, _ENDING))


def body(number: int, data: bytes, limit: int) -> list[bytes]:
    """Return the frames of a body: of so many bytes at most, none where it is empty."""
    room = limit - OVERHEAD
    pieces = [data[at : at + room] for at in range(0, len(data), room)]
    return [b"".join((_HEAD.pack(BODY, number, len(piece)), piece, _ENDING)) for piece in pieces]
