"""What a message is in the database, and values as PostgreSQL reads them. Pure.

PostgreSQL's text takes neither NUL nor lone surrogates. Both, and three control characters that
mean something here, are written as SUB and four hexadecimal digits; all other text is as it is.
Lists of values are sent as one array literal each: a tenth of the time of a list of parameters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
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

_LONGEST_INDEXED = 600
"""Characters, of up to four bytes each; an entry of an index may have 2,704 bytes."""
_SHOWN_OF_LONG = 100

_ESCAPE = "\x1a"
_NULL = "\x1e"
_SEPARATOR = "\x1f"
_UNSENDABLE = re.compile("[\x00\x1a\x1e\x1f\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([0-9a-f]{4})")

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


def escape(text: str) -> str:
    """Return the text as a column of type text can hold it."""
    if _UNSENDABLE.search(text) is None:
        return text
    return _UNSENDABLE.sub(lambda found: f"{_ESCAPE}{ord(found[0]):04x}", text)


def unescape(text: str) -> str:
    """Return the text that a column holds."""
    if _ESCAPE not in text:
        return text
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def escape_or_null(text: str | None) -> str | None:
    """Return what a column that may be NULL holds of the text."""
    return None if text is None else escape(text)


def unescape_or_null(text: str | None) -> str | None:
    """Return the text in a column that may be NULL."""
    return None if text is None else unescape(text)


def bounded(text: str) -> str:
    """Return a text that fits into an index: itself, or, where it is long, a digest of it."""
    if len(text) <= _LONGEST_INDEXED:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[:_SHOWN_OF_LONG]}~sha256:{digest}"


def bounded_or_null(text: str | None) -> str | None:
    """Return what fits into an index of a text that may be missing."""
    return None if text is None else bounded(text)


def texts(values: Sequence[str | None]) -> str:
    """Return an array of texts, escaped, as PostgreSQL writes it."""
    if not values:
        return "{}"
    joined = _SEPARATOR.join([_NULL if value is None else value for value in values])
    plain = joined.isascii() and _ESCAPE not in joined and "\x00" not in joined
    if not plain or joined.count(_SEPARATOR) >= len(values) or joined.count(_NULL):
        each = [_NULL if value is None else escape(value) for value in values]
        joined = _SEPARATOR.join(each)
    if "\\" in joined or '"' in joined:
        joined = joined.replace("\\", "\\\\").replace('"', '\\"')
    quoted = '{"' + joined.replace(_SEPARATOR, '","') + '"}'
    return quoted.replace(f'"{_NULL}"', "NULL") if _NULL in joined else quoted


def scalars(values: Iterable[float | bool | datetime | None]) -> str:
    """Return an array of numbers, truths or instants as PostgreSQL reads it."""
    return f"{{{','.join(map(str, values)).replace('None', 'NULL')}}}"


def arrays(
    names: Sequence[str],
    rows: Sequence[tuple[object, ...]],
    *,
    text: frozenset[str],
    binary: frozenset[str],
) -> dict[str, object]:
    """Return an array for each column of the rows, by what the column is."""
    made: dict[str, object] = {}
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        if name in text:
            made[name] = texts(cast("tuple[str | None, ...]", column))
        elif name in binary:
            # An array of nothing but NULL has no type for psycopg; a missing one is as long as the
            # others for PostgreSQL.
            made[name] = list(column) if any(value is not None for value in column) else None
        else:
            made[name] = scalars(cast("tuple[float | None, ...]", column))
    return made


def headers_text(headers: Mapping[str, str]) -> str:
    """Return the headers as JSON."""
    return write_json(dict(headers))


def read_headers(text: str) -> dict[str, str]:
    """Return the headers in a row."""
    return cast("dict[str, str]", read_json(text))


def read_message(headers: str, body: bytes) -> Message:
    """Return the message in a row."""
    return Message(headers=read_headers(headers), body=body)


def check_size(position: int, outgoing: Outgoing) -> None:
    """Raise `BodyTooLargeError` if headers and body are more than the broker takes."""
    message = outgoing.message
    headers = message.headers
    size = len(message.body) + sum(_width(name) + _width(text) for name, text in headers.items())
    if size > MAX_BODY:
        raise BodyTooLargeError(
            f"message {position} ({outgoing.id}) has {size} bytes of headers and body, "
            f"postgresql:// takes {MAX_BODY}: send a reference to the data instead"
        )


def _width(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def read_texts(text: str | None) -> list[str]:
    """Return the texts of a JSON array; none for NULL."""
    return [] if text is None else cast("list[str]", read_json(text))


def write_json(value: object) -> str:
    """Return the value as JSON, which needs no escaping: it has neither NUL nor surrogates."""
    try:
        return to_json(value).decode()
    except PydanticSerializationError:
        return _encode(value)


def read_json(text: str) -> object:
    """Return the value in a JSON text."""
    try:
        return cast("object", from_json(text))
    except ValueError:
        return _decode(text)
