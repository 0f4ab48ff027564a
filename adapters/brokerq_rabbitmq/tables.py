"""Header tables of AMQP 0-9-1, read and written. Pure.

What jobs have is done here: a message has ten headers, and all but a few are text. The types that
are rare are left to pamqp.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from pamqp import decode, encode

if TYPE_CHECKING:
    from pamqp.common import FieldValue

_LONG = struct.Struct(">I")
_SIGNED = struct.Struct(">i")
_LONG_LONG = struct.Struct(">q")
_TIME = struct.Struct(">Q")
_TEXT, _FLAG, _INT, _LONG_INT, _INSTANT, _BYTES, _TABLE, _ARRAY = b"StIlTxFA"
_LAST_SECOND = 0xFFFF_FFFF
"""What is later is taken to be milliseconds: some clients send those."""
MOST_NAME = 255
MOST_DEPTH = 32
"""Tables and arrays within each other that are read; what is deeper stays bytes."""


def short(text: str) -> bytes:
    """Return a short string: its length and itself. Raises `ValueError` beyond 255 bytes."""
    data = text.encode()
    if len(data) > MOST_NAME:
        raise ValueError(f"{text[:40]!r}… has {len(data)} bytes, AMQP takes {MOST_NAME} there")
    return bytes((len(data),)) + data


@lru_cache(maxsize=1024)
def _head(name: str) -> bytes:
    return short(name) + b"S"


def write_table(table: Mapping[str, object]) -> bytes:
    """Return the table with its length. Raises `TypeError` for what AMQP has no type for."""
    parts = [b""]
    for name, value in table.items():
        if type(value) is str:
            data = value.encode()
            parts += (_head(name), _LONG.pack(len(data)), data)
        else:
            parts += (short(name), encode.encode_table_value(cast("FieldValue", value)))
    parts[0] = _LONG.pack(sum(map(len, parts)))
    return b"".join(parts)


def read_table(data: bytes, start: int, end: int, depth: int = 0) -> dict[str, object]:
    """Return the table whose fields are from `start` to `end`, within `depth` others.

    Text that is no UTF-8 stays bytes. Raises `ValueError`, or what reading behind the end raises:
    `IndexError` and `struct.error`.
    """
    if end > len(data):
        raise ValueError("a table that is cut off")
    table: dict[str, object] = {}
    at = start
    while at < end:
        stop = at + 1 + data[at]
        name = data[at + 1 : stop].decode("utf-8", "replace")
        if data[stop] == _TEXT:
            at = stop + 5 + _LONG.unpack_from(data, stop + 1)[0]
            table[name] = _text(data[stop + 5 : at])
        else:
            table[name], at = _read(data, stop, end, depth)
    if at != end:
        raise ValueError("a table that goes on behind its end")
    return table


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _read(data: bytes, at: int, end: int, depth: int) -> tuple[object, int]:
    """Return the value whose type stands at `at`, and where it ends."""
    kind, at = data[at], at + 1
    if kind == _LONG_INT:
        return _LONG_LONG.unpack_from(data, at)[0], at + 8
    if kind == _INT:
        return _SIGNED.unpack_from(data, at)[0], at + 4
    if kind == _FLAG:
        return data[at] != 0, at + 1
    if kind == _INSTANT:
        return _instant(_TIME.unpack_from(data, at)[0]), at + 8
    if kind in (_TEXT, _BYTES, _TABLE, _ARRAY):
        start = at + 4
        stop = start + _LONG.unpack_from(data, at)[0]
        if stop > end:
            raise ValueError("a value that goes on behind its table")
        return _read_long(kind, data, start, stop, depth + 1), stop
    used, value = decode.embedded_value(data[at - 1 : end])
    return value, at - 1 + used


def _read_long(kind: int, data: bytes, start: int, stop: int, depth: int) -> object:
    if kind == _TEXT:
        return _text(data[start:stop])
    if kind == _BYTES or depth > MOST_DEPTH:
        return bytearray(data[start:stop])
    if kind == _TABLE:
        return read_table(data, start, stop, depth)
    values: list[object] = []
    at = start
    while at < stop:
        value, at = _read(data, at, stop, depth)
        values.append(value)
    if at != stop:
        raise ValueError("an array that goes on behind its end")
    return values


def _instant(seconds: int) -> datetime | int:
    """Return the time; a number where there is no such date: anyone may have sent it."""
    try:
        return datetime.fromtimestamp(seconds / 1000 if seconds > _LAST_SECOND else seconds, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return seconds
