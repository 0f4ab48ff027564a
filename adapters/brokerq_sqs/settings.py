"""What the URL says: `sqs://REGION?option=value`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

from brokerq.duration import to_timedelta
from brokerq.errors import ConfigurationError
from brokerq.url import Url

LONGEST_WAIT = timedelta(seconds=20)
_OPTIONS = frozenset({"endpoint", "kms", "prefix", "profile", "wait"})
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an SQS broker is made with.

    Attributes:
        region: Such as `eu-central-1`.
        prefix: Of every queue's name.
        endpoint: Another server than AWS's, such as an emulator; None: AWS.
        profile: Of the AWS configuration files; None: the usual chain of credentials.
        kms: Key id or alias that encrypts messages; None: a key that SQS manages.
        wait: How long an idle poll waits at most; who stops a worker waits for it.
        look_every: How often to look whether SQS itself has given up on a message.
    """

    region: str
    prefix: str
    endpoint: str | None = None
    profile: str | None = None
    kms: str | None = None
    wait: timedelta = LONGEST_WAIT
    look_every: timedelta = timedelta(seconds=30)


def read_settings(url: Url, *, prefix: str) -> Settings:
    """Return what the URL says. Raises `ConfigurationError`."""
    url.refuse_unknown(_OPTIONS)
    if "@" in urlsplit(url.raw).netloc:
        raise ConfigurationError(
            f"{url} names a user: credentials come from the usual AWS chain (environment, profile, "
            "role), never from the URL"
        )
    if not _REGION.fullmatch(url.host) or url.path not in {"", "/"}:
        raise ConfigurationError(
            f"{url} names no region: write sqs://us-east-1, with options after a question mark"
        )
    for name in _OPTIONS & url.query.keys():
        if not url.query[name]:
            raise ConfigurationError(f"{url}: {name} is empty; leave it out, or give it a value")
    wait = to_timedelta(url.query.get("wait", LONGEST_WAIT), what="wait")
    if wait % timedelta(seconds=1) or wait > LONGEST_WAIT:
        raise ConfigurationError(f"{url}: wait must be whole seconds, from 0s to 20s")
    return Settings(
        region=url.host,
        prefix=url.query.get("prefix", prefix),
        endpoint=_read_endpoint(url),
        profile=url.query.get("profile"),
        kms=url.query.get("kms"),
        wait=wait,
    )


def _read_endpoint(url: Url) -> str | None:
    endpoint = url.query.get("endpoint")
    if endpoint is None:
        return None
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise ConfigurationError(
            f"{url}: endpoint must be a URL without credentials, as in http://127.0.0.1:4566"
        )
    return endpoint
