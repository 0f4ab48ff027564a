"""What a message is in the file: its size, its headers as text, its instants as numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from json import JSONDecoder, JSONEncoder
from typing import cast

from pydantic_core import PydanticSerializationError, from_json, to_json

from brokerq.broker import Outgoing
from brokerq.errors import BodyTooLargeError
from brokerq.message import Message

MAX_BODY = 16 * 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400
_MICROS = 1_000_000

# Of these, Python's own are slower, but take texts with lone surrogates.
_encode = JSONEncoder(separators=(",", ":")).encode
_decode = JSONDecoder().decode


def to_micros(instant: datetime) -> int:
    """Return microseconds since 1970."""
    since = instant - _EPOCH
    return (since.days * _DAY + since.seconds) * _MICROS + since.microseconds


def from_micros(micros: int) -> datetime:
    """Return the instant so many microseconds after 1970 began."""
    return _EPOCH + timedelta(microseconds=micros)


def read_instant(micros: int | None) -> datetime | None:
    """Return the instant in a column that may be NULL."""
    return None if micros is None else from_micros(micros)


def write_instant(instant: datetime | None) -> int | None:
    """Return what a column that may be NULL says of the instant."""
    return None if instant is None else to_micros(instant)


def span(duration: timedelta) -> int:
    """Return the duration in microseconds, and none for a negative one."""
    if duration.days < 0:
        return 0
    return (duration.days * _DAY + duration.seconds) * _MICROS + duration.microseconds


def headers_text(headers: Mapping[str, str]) -> str:
    """Return the headers as JSON."""
    return _write(dict(headers))


def read_headers(text: str) -> dict[str, str]:
    """Return the headers in a row."""
    return cast("dict[str, str]", _read(text))


def read_message(headers: str, body: bytes | str) -> Message:
    """Return the message in a row; a program that knows only SQL may have written text."""
    data = body.encode() if isinstance(body, str) else body
    return Message(headers=read_headers(headers), body=data)


def check_size(position: int, outgoing: Outgoing) -> None:
    """Raise `BodyTooLargeError` if headers and body are more than the broker takes."""
    message = outgoing.message
    headers = message.headers
    size = len(message.body) + sum(_width(name) + _width(text) for name, text in headers.items())
    if size > MAX_BODY:
        raise BodyTooLargeError(
            f"message {position} ({outgoing.id}) has {size} bytes of headers and body, "
            f"sqlite:// takes {MAX_BODY}: send a reference to the data instead"
        )


def _width(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def numbers(values: Sequence[int]) -> str:
    """Return the numbers for SQLite's `json_each`."""
    return f"[{','.join(map(str, values))}]"


def texts(values: Sequence[object]) -> str:
    """Return texts, or lists of them, for SQLite's `json_each`."""
    return _write(values)


def read_texts(text: str | None) -> list[str]:
    """Return the texts of a JSON array; none for NULL."""
    return [] if text is None else cast("list[str]", _read(text))


def _write(value: object) -> str:
    try:
        return to_json(value).decode()
    except PydanticSerializationError:
        return _encode(value)


def _read(text: str) -> object:
    try:
        return cast("object", from_json(text))
    except ValueError:
        return _decode(text)
