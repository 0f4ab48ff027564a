"""What a message is in the file: its size, its headers as text, its instants as numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from brokerq.broker import Outgoing
from brokerq.message import Message
from brokerq.sql import columns, size

MAX_BODY = 16 * 1024 * 1024

# What is the same in every SQL database is had from here, too.
headers_text = columns.headers_text
read_headers = columns.read_headers
read_texts = columns.read_texts
from_micros = columns.from_micros
span = columns.span
to_micros = columns.to_micros


def read_instant(micros: int | None) -> datetime | None:
    """Return the instant in a column that may be NULL."""
    return None if micros is None else from_micros(micros)


def write_instant(instant: datetime | None) -> int | None:
    """Return what a column that may be NULL says of the instant."""
    return None if instant is None else to_micros(instant)


def check_size(position: int, outgoing: Outgoing) -> None:
    """Raise `BodyTooLargeError` if headers and body are more than the broker takes."""
    size.check(position, outgoing, limit=MAX_BODY, scheme="sqlite")


def read_message(headers: str, body: bytes | str) -> Message:
    """Return the message in a row; a program that knows only SQL may have written text."""
    data = body.encode() if isinstance(body, str) else body
    return Message(headers=read_headers(headers), body=data)


def numbers(values: Sequence[int]) -> str:
    """Return the numbers for SQLite's `json_each`."""
    return f"[{','.join(map(str, values))}]"


def texts(values: Sequence[object]) -> str:
    """Return texts, or lists of them, for SQLite's `json_each`."""
    return columns.write_json(values)
