"""What a message is in RabbitMQ: its properties, its size, and what the broker adds. Pure.

Headers are strings of the header table. Text that is no UTF-8 (a lone surrogate) is sent as bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple, cast

from brokerq.broker import Outgoing
from brokerq.duration import to_text
from brokerq.errors import BodyTooLargeError, CapabilityError
from brokerq.message import Message
from brokerq_rabbitmq import ladder

MAX_BODY = 16 * 1024 * 1024
"""RabbitMQ's own limit from 4.0 on (`max_message_size`)."""
MAX_HEADERS = 96 * 1024
"""All headers must fit into one frame, of 128 KiB as RabbitMQ sets it, and a dead letter has more
of them than the message that it was."""
_MAX_NAME = 128
_WIDEST = 4  # bytes of the longest character in UTF-8
_PER_HEADER = 6  # bytes of the table for each
_REFUSED = frozenset({"CC", "BCC"})

HeaderTable = dict[str, object]


class Received(NamedTuple):
    """A message as the broker hands it over.

    Attributes:
        id: The `message_id`; None where the sender gave none.
        headers: The header table, with what the broker has added.
    """

    tag: int
    id: str | None
    headers: Mapping[str, object]
    body: bytes
    reply_to: str | None = None


_REASONS = {"delivery_limit": "crash_loop", "rejected": "rejected", "expired": "unroutable"}
"""The only messages that expire are those of the ladder, and those that come from there to the dead
letters are the ones whose lane was gone when they were due."""


def write_headers(message: Message) -> HeaderTable:
    """Return the header table for a message."""
    return {
        name: text if text.isascii() else _write_text(text)
        for name, text in message.headers.items()
    }


def _write_text(text: str) -> str | bytearray:
    try:
        text.encode()
    except UnicodeEncodeError:
        return bytearray(text.encode("utf-8", "surrogatepass"))
    return text


def read_message(received: Received) -> Message:
    """Return the message as it was published: without what the broker adds, all of it `x-*`."""
    headers = {
        name: value if type(value) is str else _read_value(value)
        for name, value in received.headers.items()
        if not name.startswith("x-") and name not in _REFUSED
    }
    return Message(headers=headers, body=received.body)


def _read_value(value: object) -> str:
    """Return as text what another program may put into a header."""
    match value:
        case str():
            return value
        case bytes() | bytearray():
            return value.decode("utf-8", "surrogatepass" if _is_text(value) else "replace")
        case datetime():
            return value.isoformat()
        case None:
            return ""
        case bool() | dict() | list():
            return json.dumps(value, default=str)
        case _:
            return str(value)


def _is_text(data: bytes | bytearray) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def read_count(headers: Mapping[str, object]) -> int:
    """Return how often the message was delivered, this time included.

    From 4.3 on `x-delivery-count` counts failures only and `x-acquired-count` all of them.
    """
    counts = (headers.get("x-delivery-count"), headers.get("x-acquired-count"))
    return 1 + max((count for count in counts if isinstance(count, int)), default=0)


def read_level(headers: Mapping[str, object]) -> str | None:
    """Return the level of the lane that the broker took a dead letter from; None: from none."""
    entry = _last_death(headers)
    _, colon, level = str(entry.get("queue") if entry else "").rpartition(":")
    return level if colon and "." not in level else None


def _last_death(headers: Mapping[str, object]) -> dict[str, object] | None:
    """Return what the broker says of the latest death; a publisher may have put anything there."""
    deaths = headers.get("x-death")
    if not isinstance(deaths, list) or not deaths:
        return None
    latest = cast("list[object]", deaths)[0]
    return cast("dict[str, object]", latest) if isinstance(latest, dict) else None


def read_letter(received: Received, queue: str) -> Message:
    """Return a dead letter; one that the broker itself has made says so in our words."""
    message = read_message(received)
    if "bq-dead-reason" in message.headers:
        return message
    entry = _last_death(received.headers)
    if entry is None:
        return message
    reason = _REASONS.get(str(entry.get("reason")), "crash_loop")
    verdict = {"bq-dead-reason": reason, "bq-dead-queue": queue}
    at = entry.get("time")
    if isinstance(at, datetime):
        verdict["bq-dead-at"] = at.astimezone(UTC).isoformat()
    return Message(headers={**message.headers, **verdict}, body=message.body)


def letter_key(received: Received) -> tuple[str | None, int]:
    """Return the job id and epoch that a dead letter is known by."""
    headers = received.headers
    job_id, epoch = headers.get("bq-id", received.id), str(headers.get("bq-epoch", "0"))
    known = str(job_id) if job_id is not None else None
    return known, int(epoch) if epoch.isascii() and epoch.isdigit() else 0


def check(position: int, outgoing: Outgoing) -> None:
    """Raise `BodyTooLargeError` or `CapabilityError` for what RabbitMQ does not take."""
    if outgoing.order is not None:
        raise CapabilityError(
            f"message {position} ({outgoing.id}) has an ordering key, and RabbitMQ keeps no order"
        )
    if outgoing.delay > ladder.LONGEST:
        raise CapabilityError(
            f"message {position} ({outgoing.id}) is to be delayed by {to_text(outgoing.delay)}, "
            f"amqp:// delays by at most {to_text(ladder.LONGEST)} at a time"
        )
    message = outgoing.message
    headers = message.headers
    if _REFUSED & headers.keys() or max(map(len, headers), default=0) > _MAX_NAME // _WIDEST:
        _check_names(position, outgoing)
    body = len(message.body)
    length = _length(headers)
    # Most messages are far too small to be counted exactly.
    if _WIDEST * length > MAX_HEADERS or body + _WIDEST * length > MAX_BODY:
        _check_size(position, outgoing)


def _check_names(position: int, outgoing: Outgoing) -> None:
    for name in outgoing.message.headers:
        if name in _REFUSED:
            raise CapabilityError(
                f"message {position} ({outgoing.id}) has the header {name}, by which RabbitMQ "
                "sends copies to other queues: use another name"
            )
        if _width(name) > _MAX_NAME:
            raise CapabilityError(
                f"message {position} ({outgoing.id}) has a header whose name is longer than "
                f"{_MAX_NAME} bytes: {name[:40]}…"
            )


def _check_size(position: int, outgoing: Outgoing) -> None:
    message = outgoing.message
    headers = sum(
        _width(name) + _width(text) + _PER_HEADER for name, text in message.headers.items()
    )
    if headers + len(message.body) > MAX_BODY:
        raise BodyTooLargeError(
            f"message {position} ({outgoing.id}) has {headers + len(message.body)} bytes of "
            f"headers and body, amqp:// takes {MAX_BODY}: send a reference to the data instead"
        )
    if headers > MAX_HEADERS:
        raise BodyTooLargeError(
            f"message {position} ({outgoing.id}) has {headers} bytes of headers, amqp:// takes "
            f"{MAX_HEADERS}: put the data into the arguments"
        )


def _length(headers: Mapping[str, str]) -> int:
    return sum(map(len, headers)) + sum(map(len, headers.values())) + _PER_HEADER * len(headers)


def _width(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
