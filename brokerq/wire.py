"""The wire format, version 1: what the headers of a message mean. Pure.

A header that has its default is left out. Counts are lower bounds: where a store is in use, its
record is what counts. Instants are ISO 8601 in UTC.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

from brokerq.message import Message

VERSION = "1"
PREFIX = "bq-"
DEAD_PREFIX = "bq-dead-"
MAX_DIGITS = 9


class WireError(ValueError):
    """A header cannot be read; the message says which and why."""


class Head(NamedTuple):
    """What the headers of a job's message say; a tuple, as every delivery makes one.

    Attributes:
        id: Job id, the same over retries, redeliveries and redrives.
        job: Name of the job.
        epoch: Raised by one with every retry copy and every redrive.
        attempts: Attempts already made.
        crashes: Crashes already blamed.
        key: Idempotency key; None: the job id stands for it.
        fingerprint: Digest of the payload that the key was taken with.
        first_at: When the job was first published.
        not_before: The job must not begin earlier.
        expires_at: The job must not begin later.
        priority: Level asked for; None: the queue's default.
        order: Ordering key.
        tenant: Whose job it is, for fairness.
        cause: Id of the job, or name of the thing, that made this one.
        correlation: The user's correlation id.
        redrives: How often the job came back from the dead letters.
        max_attempts: Budget of this job; None: its policy's.
        tags: Words to search by.
        user: The user's own headers.
    """

    id: str
    job: str
    first_at: datetime
    epoch: int = 0
    attempts: int = 0
    crashes: int = 0
    key: str | None = None
    fingerprint: str | None = None
    not_before: datetime | None = None
    expires_at: datetime | None = None
    priority: str | None = None
    order: str | None = None
    tenant: str | None = None
    cause: str | None = None
    correlation: str | None = None
    redrives: int = 0
    max_attempts: int | None = None
    tags: tuple[str, ...] = ()
    user: Mapping[str, str] = MappingProxyType({})


_TEXTS = {
    "bq-id": "id",
    "bq-job": "job",
    "bq-key": "key",
    "bq-fingerprint": "fingerprint",
    "bq-priority": "priority",
    "bq-order": "order",
    "bq-tenant": "tenant",
    "bq-cause": "cause",
    "bq-correlation": "correlation",
}
_COUNTS = {
    "bq-epoch": "epoch",
    "bq-attempt": "attempts",
    "bq-crashes": "crashes",
    "bq-redrives": "redrives",
    "bq-max-attempts": "max_attempts",
}
_INSTANTS = {
    "bq-first-at": "first_at",
    "bq-not-before": "not_before",
    "bq-expires-at": "expires_at",
}


def write_headers(head: Head) -> dict[str, str]:
    """Return the headers that say what `head` says, the user's first."""
    headers = dict(head.user)
    headers["bq-v"] = VERSION
    headers["bq-id"] = head.id
    headers["bq-job"] = head.job
    headers["bq-first-at"] = head.first_at.isoformat()
    for name, attribute in _COUNTS.items():
        count = getattr(head, attribute)
        if count:
            headers[name] = str(count)
    if head.not_before is not None:
        headers["bq-not-before"] = head.not_before.isoformat()
    if head.expires_at is not None:
        headers["bq-expires-at"] = head.expires_at.isoformat()
    for name, attribute in _OPTIONAL_TEXTS:
        value = getattr(head, attribute)
        if value is not None:
            headers[name] = value
    if head.tags:
        headers["bq-tags"] = json.dumps(head.tags)
    return headers


def published_at(head: Head, now: datetime) -> Head:
    """Return the same head with another first instant."""
    return Head._make((*head[:2], now, *head[3:]))


def of_another(
    head: Head, headers: Mapping[str, str], job_id: str, key: str | None, fingerprint: str | None
) -> tuple[Head, dict[str, str]]:
    """Return head and headers of a job that differs in these from another without a key."""
    own = {**headers, "bq-id": job_id}
    if key is not None:
        own["bq-key"] = key
    if fingerprint is not None:
        own["bq-fingerprint"] = fingerprint
    # By position: `_replace` takes three times as long.
    return Head._make((job_id, *head[1:6], key, fingerprint, *head[8:])), own


_OPTIONAL_TEXTS = tuple((n, a) for n, a in _TEXTS.items() if a not in {"id", "job"})


def adopt(message: Message, *, id: str, default_job: str | None, now: datetime) -> Message:  # noqa: A002
    """Return a message that was written by hand as one that `read_head` can read.

    What the message says itself is kept; an id, job or first instant that is missing, or empty, is
    filled in. Without a job it stays without one.
    """
    headers = {"bq-v": VERSION, "bq-id": id, "bq-first-at": now.isoformat()}
    if default_job is not None:
        headers["bq-job"] = default_job
    said = {name: text for name, text in message.headers.items() if text or name not in headers}
    return Message(headers={**headers, **said}, body=message.body)


def without_verdict(letter: Message) -> Message:
    """Return a dead letter's message without what made it one."""
    headers = {k: v for k, v in letter.headers.items() if not k.startswith(DEAD_PREFIX)}
    return Message(headers=headers, body=letter.body)


def read_head(message: Message) -> Head:
    """Return what the headers say.

    Dead-letter headers are ignored. Raises `WireError` if the id or the job is missing, the version
    is unknown, or a count or instant cannot be read.
    """
    headers = message.headers
    version = headers.get("bq-v", VERSION)
    if version != VERSION:
        raise WireError(f"wire version {version!r} is not known, only {VERSION!r} is")
    values = list(_ABSENT)
    user: dict[str, str] = {}
    for name, text in headers.items():
        if name in _TEXT_AT:  # most are, and plain ones
            values[_TEXT_AT[name]] = text if text.isascii() else _read_text(name, text)
        elif name in _READERS:
            position, read = _READERS[name]
            values[position] = read(name, text)
        elif not name.startswith(PREFIX):
            user[name] = text
    if user:
        values[_USER] = user
    for position, name in enumerate(_REQUIRED):
        if values[position] is None:
            raise WireError(f"header {name} is missing")
    return Head._make(values)


def _read_count(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > MAX_DIGITS:
        raise WireError(f"header {name} is not a count: {text!r}")
    return int(text)


def _read_instant(name: str, text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is UTC:  # as brokerq writes them
            return instant
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise WireError(f"header {name} is not an instant: {text!r}") from None


def _read_tags(name: str, text: str) -> tuple[str, ...]:
    try:
        tags: object = json.loads(text)
    except ValueError:
        tags = None
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):  # pyright: ignore[reportUnknownVariableType]
        raise WireError(f"header {name} is not a list of words: {text!r}")
    return tuple(tags)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _read_budget(name: str, text: str) -> int:
    budget = _read_count(name, text)
    if not budget:
        raise WireError(f"header {name} allows nothing: {text!r}")
    return budget


def _read_text(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WireError(f"header {name} is no text: {text!r}") from None
    return text


_POSITIONS = {attribute: position for position, attribute in enumerate(Head._fields)}
_TEXT_AT = {name: _POSITIONS[attribute] for name, attribute in _TEXTS.items()}
_READERS: dict[str, tuple[int, Callable[[str, str], object]]] = {
    **{name: (_POSITIONS[attribute], _read_count) for name, attribute in _COUNTS.items()},
    **{name: (_POSITIONS[attribute], _read_instant) for name, attribute in _INSTANTS.items()},
    "bq-max-attempts": (_POSITIONS["max_attempts"], _read_budget),
    "bq-tags": (_POSITIONS["tags"], _read_tags),
}
_REQUIRED = ("bq-id", "bq-job", "bq-first-at")
"""The first fields, in order."""
_ABSENT: tuple[object, ...] = tuple(Head._field_defaults.get(name) for name in Head._fields)
_USER = _POSITIONS["user"]
