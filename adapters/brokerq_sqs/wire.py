"""What a message is in SQS: a text, and attributes of which one holds all headers. Pure.

A body that SQS would not take as text travels as base64, and says so. Attributes that others have
written count as headers, so that a program that knows only SQS can name a job.

Limits: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from json import JSONDecoder, JSONEncoder
from typing import TYPE_CHECKING, NamedTuple, cast

from brokerq.errors import BodyTooLargeError
from brokerq.message import Message
from brokerq.wire import DEAD_PREFIX

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import (
        MessageAttributeValueOutputTypeDef,
        MessageAttributeValueTypeDef,
        MessageTypeDef,
    )

BATCH = 10
"""Entries of one call."""
MAX_WIRE = 1024 * 1024
"""Bytes of a message with its attributes, and of a batch."""
LETTER_ROOM = 64 * 1024
"""Kept free in a message for what its dead letter says beyond it."""
MAX_BODY = (MAX_WIRE - LETTER_ROOM) * 3 // 4
"""Headers and body that always fit, even as base64."""
LONGEST_DELAY = timedelta(seconds=900)

HEADERS = "brokerq"
BODY = "brokerq-body"
ID = "brokerq-id"
DEAD = "brokerq-dead"
_BASE64 = "base64"
_EMPTY = "empty"
_NOTHING = "-"  # SQS takes no empty body
_OURS = frozenset({HEADERS, BODY, ID, DEAD})

_LONGEST_FIRST = ("traceback", "history", "note", "error-message")
"""Parts of a dead letter's record that are left out where there is no room, in this order."""
_SECOND = timedelta(seconds=1)
_ID = re.compile(r"[!-~]{1,128}")
_ILLEGAL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MAX_DIGITS = 9

_encode = JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_encode_ascii = JSONEncoder(separators=(",", ":")).encode
_decode = JSONDecoder().decode


class Packed(NamedTuple):
    """A message as SQS takes it.

    Attributes:
        size: In bytes, as SQS counts them.
    """

    body: str
    attributes: dict[str, MessageAttributeValueTypeDef]
    size: int


class Unpacked(NamedTuple):
    """A message as it was read.

    Attributes:
        id: As it was published with; SQS's own for a message that somebody else sent.
    """

    message: Message
    id: str


def pack(
    message: Message,
    id: str | None,  # noqa: A002 - the seam's word
    *,
    dead: bool = False,
) -> Packed:
    """Return the message as SQS takes it; `dead`: marked as a letter that was judged.

    Raises `BodyTooLargeError`.
    """
    body, encoding = _write_body(message.body)
    texts: dict[str, str] = {}
    if message.headers:
        texts[HEADERS] = _write_headers(message.headers)
    if encoding is not None:
        texts[BODY] = encoding
    if id and id != message.headers.get("bq-id") and not _ILLEGAL.search(id):
        texts[ID] = id
    if dead:
        texts[DEAD] = "judged"
    attributes: dict[str, MessageAttributeValueTypeDef] = {
        name: {"DataType": "String", "StringValue": text} for name, text in texts.items()
    }
    size = _width(body) + sum(len(n) + len("String") + _width(t) for n, t in texts.items())
    if size > MAX_WIRE:
        raise too_large(id, size, MAX_WIRE)
    return Packed(body, attributes, size)


def pack_letter(letter: Message, id: str | None) -> Packed:  # noqa: A002 - the seam's word
    """Return the dead letter as SQS takes it, with as much of its record as there is room for.

    Nothing is missing in the store's record. Raises `BodyTooLargeError` where even the rest is too
    much, which only a message can be that was not published by brokerq.
    """
    headers = dict(letter.headers)
    for name in _LONGEST_FIRST:
        try:
            return pack(Message(headers=headers, body=letter.body), id, dead=True)
        except BodyTooLargeError:
            headers.pop(DEAD_PREFIX + name, None)
    return pack(Message(headers=headers, body=letter.body), id, dead=True)


def check_size(message: Message, id: str) -> None:  # noqa: A002 - the seam's word
    """Raise `BodyTooLargeError` if headers and body are more than the broker takes."""
    headers = message.headers
    size = len(message.body) + sum(_width(name) + _width(text) for name, text in headers.items())
    if size > MAX_BODY:
        raise too_large(id, size, MAX_BODY)


def too_large(id: str | None, size: int, limit: int) -> BodyTooLargeError:  # noqa: A002
    """Return the error of a message that SQS would not take."""
    return BodyTooLargeError(
        f"message {id} has {size} bytes of headers and body, sqs:// takes {limit}: "
        "send a reference to the data instead"
    )


def _write_body(body: bytes) -> tuple[str, str | None]:
    if not body:
        return _NOTHING, _EMPTY
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return b64encode(body).decode(), _BASE64
    if _ILLEGAL.search(text):
        return b64encode(body).decode(), _BASE64
    return text, None


def _write_headers(headers: Mapping[str, str]) -> str:
    text = _encode(dict(headers))
    return text if text.isascii() or not _ILLEGAL.search(text) else _encode_ascii(dict(headers))


def _width(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def unpack(raw: MessageTypeDef) -> Unpacked:
    """Return the message that SQS has delivered; what cannot be read stays as it is."""
    attributes = raw.get("MessageAttributes") or {}
    ours = {name: _text(attributes[name]) for name in _OURS & attributes.keys()}
    headers = {
        name: _text(value)
        for name, value in attributes.items()
        if name not in _OURS and not value.get("DataType", "").startswith("Binary")
    }
    body = _read_body(raw.get("Body", ""), ours.get(BODY))
    written = _read_headers(ours.get(HEADERS))
    if body is None:
        headers[BODY] = ours[BODY]
        body = raw.get("Body", "").encode()
    if written is None:
        headers[HEADERS] = ours[HEADERS]
    else:
        headers |= written
    id_ = ours.get(ID) or headers.get("bq-id") or raw.get("MessageId", "")
    return Unpacked(Message(headers=headers, body=body), id_)


def _text(attribute: MessageAttributeValueOutputTypeDef) -> str:
    return attribute.get("StringValue", "")


def _read_body(text: str, encoding: str | None) -> bytes | None:
    if encoding is None:
        return text.encode()
    if encoding == _EMPTY and text == _NOTHING:
        return b""
    if encoding != _BASE64:
        return None
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return None


def _read_headers(text: str | None) -> dict[str, str] | None:
    if text is None:
        return {}
    try:
        value: object = _decode(text)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    headers = cast("dict[str, object]", value)
    whole = all(isinstance(each, str) for each in headers.values())
    return cast("dict[str, str]", headers) if whole else None


def epoch_of(message: Message) -> int | None:
    """Return the epoch that the headers say; None where nobody can tell."""
    text = message.headers.get("bq-epoch", "0")
    readable = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if readable else None


def letter_key(message: Message) -> tuple[str | None, int | None]:
    """Return job id and epoch: what names a dead letter."""
    return message.headers.get("bq-id"), epoch_of(message)


def is_judged(raw: MessageTypeDef) -> bool:
    """Tell whether a dead letter was put there by brokerq; SQS's own are as they were published."""
    return DEAD in (raw.get("MessageAttributes") or {})


def seconds(duration: timedelta) -> int:
    """Return whole seconds, never less than the duration; none for a negative one."""
    return max(0, -(-duration // _SECOND))


def as_id(*parts: str) -> str:
    """Return text that SQS takes as a group or for deduplication, the same for the same parts."""
    text = ".".join(parts)
    if _ID.fullmatch(text):
        return text
    return f"sha256-{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def batches(sizes: Sequence[int]) -> Iterator[range]:
    """Divide entries of these sizes into as few calls as their order allows."""
    begin = total = 0
    for place, size in enumerate(sizes):
        if place - begin == BATCH or (place > begin and total + size > MAX_WIRE):
            yield range(begin, place)
            begin, total = place, 0
        total += size
    if begin < len(sizes):
        yield range(begin, len(sizes))


class Entry(NamedTuple):
    """One message of a batch that is to be sent.

    Attributes:
        delay: In whole seconds.
        group: On an ordered queue the ordering key, elsewhere the tenant; or None.
        deduplication: On an ordered queue: what SQS has taken it does not take twice within five
            minutes.
    """

    packed: Packed
    delay: int = 0
    group: str | None = None
    deduplication: str | None = None


def entry(
    packed: Packed,
    id: str,  # noqa: A002 - the seam's word
    message: Message,
    *,
    ordered: bool,
    group: str | None = None,
    delay: int = 0,
    dead: bool = False,
) -> Entry:
    """Return what is to be sent; on an ordered queue a message without a group is alone in one."""
    if not ordered:
        return Entry(packed, delay, group)
    parts = [id, message.headers.get("bq-epoch", "0"), *(["dead"] if dead else [])]
    return Entry(packed, delay, group or as_id(id), as_id(*parts))
