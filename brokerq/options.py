"""What one publish may ask for beyond the job's own settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TypedDict

from brokerq.duration import Duration, to_timedelta
from brokerq.errors import ConfigurationError

MAX_KEY = 255
_RESERVED = ("bq-", "x-")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions:
    """How one job is published; checked when it is made. None: as the job or the app says.

    Attributes:
        delay: Not to be run earlier than so long after the publish.
        at: Not to be run earlier; in UTC. An instant in the past means at once.
        priority: A level that the queue declares.
        queue: Instead of the job's own.
        key: The idempotency key, instead of the job's own; at most 255 characters.
        deadline: Not to be begun later; text or a `timedelta` counts from the publish.
        order: Ordering key; only on an ordered queue.
        tenant: Whose job it is, for fairness between tenants.
        correlation: The user's own correlation id.
        cause: Id of the job, or name of the thing, that made this one.
        tags: Words to search by, beside the job's own.
        headers: The user's own; names that begin with `bq-` or `x-` are refused.
        max_attempts: Instead of the retry policy's.
        connection: Publish within the transaction that is open there.
    """

    delay: timedelta | None = None
    at: datetime | None = None
    priority: str | None = None
    queue: str | None = None
    key: str | None = None
    deadline: datetime | timedelta | None = None
    order: str | None = None
    tenant: str | None = None
    correlation: str | None = None
    cause: str | None = None
    tags: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    max_attempts: int | None = None
    connection: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.delay is not None and self.at is not None:
            raise ConfigurationError("give delay= or at=, not both")
        if self.delay is not None:
            to_timedelta(self.delay, what="delay")
        _check_texts(self)
        _check_headers(self.headers)
        attempts = self.max_attempts
        if attempts is not None and not _is_count(attempts):
            raise ConfigurationError(f"max_attempts must be at least 1, got {attempts!r}")
        if self.at is not None:
            object.__setattr__(self, "at", _in_utc(self.at, what="at"))
        if isinstance(self.deadline, datetime):
            object.__setattr__(self, "deadline", _in_utc(self.deadline, what="deadline"))
        elif self.deadline is not None:
            to_timedelta(self.deadline, what="deadline")

    def over(self, newer: PublishOptions) -> PublishOptions:
        """Return these options with those of `newer` that were given."""
        given = {
            field.name: value
            for field in fields(newer)
            if (value := getattr(newer, field.name)) not in (None, (), {})
        }
        return replace(self, **given)

    def not_before(self, now: datetime) -> datetime | None:
        """Return when a job published at `now` may run first; None: at once."""
        if self.delay is not None:
            return _later(now, self.delay, what="delay") if self.delay else None
        return self.at if self.at is not None and self.at > now else None

    def expires_at(self, now: datetime) -> datetime | None:
        """Return when a job published at `now` may be begun last; None: it has no deadline."""
        if isinstance(self.deadline, timedelta):
            return _later(now, self.deadline, what="deadline")
        return self.deadline


class PublishKeywords(TypedDict, total=False):
    """What can be asked for when publishing; the keywords of `publish_options`.

    Attributes:
        delay: Not to be run earlier than so long after the publish.
        at: Not to be run earlier; with a time zone. Not together with `delay`.
        priority: A level that the queue declares.
        queue: Instead of the job's own.
        key: Idempotency key, instead of the job's own.
        deadline: Not to be begun later; a duration counts from the publish.
        order: Ordering key; only on an ordered queue.
        tenant: Whose job it is.
        correlation: Your own id.
        cause: Id of the job, or name of the thing, that made this one.
        tags: Words to search by, beside the job's own.
        headers: Your own.
        max_attempts: Instead of the retry policy's.
        connection: Publish within the transaction that is open there: a connection of the store's
            database, or a SQLAlchemy session or connection. Nothing is published without its
            commit.
    """

    delay: Duration | None
    at: datetime | None
    priority: str | None
    queue: str | None
    key: str | None
    deadline: datetime | Duration | None
    order: str | None
    tenant: str | None
    correlation: str | None
    cause: str | None
    tags: Iterable[str]
    headers: Mapping[str, str] | None
    max_attempts: int | None
    connection: object


def publish_options(
    *,
    delay: Duration | None = None,
    at: datetime | None = None,
    priority: str | None = None,
    queue: str | None = None,
    key: str | None = None,
    deadline: datetime | Duration | None = None,
    order: str | None = None,
    tenant: str | None = None,
    correlation: str | None = None,
    cause: str | None = None,
    tags: Iterable[str] = (),
    headers: Mapping[str, str] | None = None,
    max_attempts: int | None = None,
    connection: object = None,
) -> PublishOptions:
    """Return the options, durations read from text. Raises `ConfigurationError`."""
    if isinstance(deadline, str):
        deadline = to_timedelta(deadline, what="deadline")
    if isinstance(tags, str):
        raise ConfigurationError(f"tags is a list of words: write [{tags!r}]")
    return PublishOptions(
        delay=None if delay is None else to_timedelta(delay, what="delay"),
        at=at,
        priority=priority,
        queue=queue,
        key=key,
        deadline=deadline,
        order=order,
        tenant=tenant,
        correlation=correlation,
        cause=cause,
        tags=tuple(tags),
        headers=dict(headers or {}),
        max_attempts=max_attempts,
        connection=connection,
    )


def _check_texts(options: PublishOptions) -> None:
    for name in ("priority", "queue", "key", "order", "tenant", "correlation", "cause"):
        text = getattr(options, name)
        if text is None:
            continue
        if text == "":
            raise ConfigurationError(f"{name} must not be empty: leave it out instead")
        _check_text(text, name)
    for tag in options.tags:
        _check_text(tag, "a tag")
    if options.key is not None and len(options.key) > MAX_KEY:
        raise ConfigurationError(
            f"key has {len(options.key)} characters, {MAX_KEY} are allowed: use a digest of it"
        )


def _check_text(text: object, what: str) -> None:
    if not isinstance(text, str):
        raise ConfigurationError(f"{what} must be text, not {type(text).__name__}: use str(...)")
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ConfigurationError(f"{what} cannot be sent as UTF-8: {exc}") from None


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        _check_text(name, "a header's name")
        _check_text(value, f"header {name!r}")
        if not name or name.lower().startswith(_RESERVED):
            raise ConfigurationError(
                f"header {name!r} cannot be set: names that begin with bq- or x- are reserved"
            )


def _is_count(value: object) -> bool:
    """Tell what the annotation promises: not every caller is checked by a type checker."""
    return isinstance(value, int) and value >= 1


def _in_utc(instant: object, *, what: str) -> datetime:
    if not isinstance(instant, datetime):
        raise ConfigurationError(f"{what} must be a datetime with a time zone, not {instant!r}")
    if instant.utcoffset() is None:
        raise ConfigurationError(
            f"{what} {instant.isoformat()} has no time zone: write datetime(..., tzinfo=UTC)"
        )
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ConfigurationError(f"{what} {instant.isoformat()} is out of range") from None


def _later(now: datetime, duration: timedelta, *, what: str) -> datetime:
    try:
        return now + duration
    except OverflowError:
        raise ConfigurationError(f"{what} {duration} ends beyond the year 9999") from None
