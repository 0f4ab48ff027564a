"""What a message is in the database, and values as PostgreSQL reads them. Pure.

PostgreSQL's text takes neither NUL nor lone surrogates. Both, and three control characters that
mean something here, are written as SUB and four hexadecimal digits; all other text is as it is.
Lists of values are sent as one array literal each: a tenth of the time of a list of parameters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeVar, cast

from brokerq.broker import Outgoing
from brokerq.message import Message
from brokerq.sql import columns, size

T = TypeVar("T")

MAX_BODY = 16 * 1024 * 1024

_LONGEST_INDEXED = 600
"""Characters, of up to four bytes each; an entry of an index may have 2,704 bytes."""
_SHOWN_OF_LONG = 100

_ESCAPE = "\x1a"
_NULL = "\x1e"
_SEPARATOR = "\x1f"
_UNSENDABLE = re.compile("[\x00\x1a\x1e\x1f\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([0-9a-f]{4})")

# What is the same in every SQL database is had from here, too.
headers_text = columns.headers_text
read_headers = columns.read_headers
read_texts = columns.read_texts
from_micros = columns.from_micros
span = columns.span
write_json = columns.write_json


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


def once(column: Sequence[T]) -> Sequence[T]:
    """Return only the first value if all are the same; of a column without NULL.

    Statements that take it so put that value wherever the array has ended.
    """
    return column[:1] if column.count(column[0]) == len(column) else column


def some(column: Sequence[T | None]) -> Sequence[T | None]:
    """Return nothing if all values are NULL, as PostgreSQL finds them where an array has ended."""
    return () if column.count(None) == len(column) else column


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


def check_size(position: int, outgoing: Outgoing) -> None:
    """Raise `BodyTooLargeError` if headers and body are more than the broker takes."""
    size.check(position, outgoing, limit=MAX_BODY, scheme="postgresql")


def read_message(headers: str, body: bytes) -> Message:
    """Return the message in a row."""
    return Message(headers=read_headers(headers), body=body)
