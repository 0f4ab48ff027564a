"""Values as columns hold them: whole microseconds, and JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from json import JSONDecoder, JSONEncoder
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json

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


def span(duration: timedelta) -> int:
    """Return the duration in microseconds, and none for a negative one."""
    if duration.days < 0:
        return 0
    return (duration.days * _DAY + duration.seconds) * _MICROS + duration.microseconds


def write_json(value: object) -> str:
    """Return the value as JSON; as text it has neither NUL nor lone surrogates."""
    try:
        return to_json(value).decode()
    except PydanticSerializationError:
        return _encode(value)


def read_json(text: str) -> Any:
    """Return the value in a JSON text."""
    try:
        # Names come again; what is mostly new each time would be remembered for nothing.
        return from_json(text, cache_strings="keys")
    except ValueError:
        return _decode(text)


def headers_text(headers: Mapping[str, str]) -> str:
    """Return the headers as JSON."""
    return write_json(dict(headers))


def read_headers(text: str) -> dict[str, str]:
    """Return the headers in a row."""
    headers: dict[str, str] = read_json(text)
    return headers


def read_texts(text: str | None) -> list[str]:
    """Return the texts of a JSON array; none for NULL."""
    found: list[str] = [] if text is None else read_json(text)
    return found
