"""What the URL says: where the broker is, and how to speak to it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import unquote, urlsplit

from brokerq.duration import ZERO, to_timedelta
from brokerq.errors import ConfigurationError
from brokerq.url import Url

PORTS = {"amqp": 5672, "amqps": 5671}
MANAGEMENT_PORTS = {"http": 15672, "https": 15671}
_TLS = ("cafile", "certfile", "keyfile")
_DURATIONS = {
    "heartbeat": "15s",
    "connect_timeout": "5s",
    "publish_timeout": "10s",
    "consumer_timeout": "30m",
}
_MOST_PREFETCH = 65_535
_LONGEST_HEARTBEAT = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One node of the broker."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagementAddress:
    """Where the management API is, and who asks it; as text without credentials.

    Attributes:
        path: Before `/api`, without a slash at its end; mostly empty.
    """

    is_secure: bool
    host: str
    port: int
    path: str
    user: str
    password: str = field(repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.is_secure else ''}://{host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to connect, and how long to wait for what.

    Attributes:
        addresses: Nodes of one broker, tried in turn; at least one.
        user: None: the client certificate says who we are.
        heartbeat: The connection is given up when nothing was heard for more than two of these.
        prefetch: The most that one consumer has the broker send ahead; None: what the worker asks.
        publish_timeout: A confirm that takes longer is an outcome that nobody knows.
        consumer_timeout: For how long the broker lets a delivery be held; it cannot be asked.
        management: Where RabbitMQ is asked for what AMQP does not tell; None: nowhere.
        tls: None: without.
        settling_in: How long a queue must exist before a confirm counts. A node that is killed less
            than a second after it made a quorum queue may lose what that queue has confirmed
            (rabbitmq-server issue 15725; seen on 3.10, 4.0 and 4.3).
    """

    addresses: tuple[Address, ...]
    vhost: str = "/"
    user: str | None = "guest"
    password: str = "guest"  # noqa: S105 - what every RabbitMQ begins with
    heartbeat: timedelta = timedelta(seconds=15)
    prefetch: int | None = None
    connect_timeout: timedelta = timedelta(seconds=5)
    publish_timeout: timedelta = timedelta(seconds=10)
    consumer_timeout: timedelta = timedelta(minutes=30)
    management: ManagementAddress | None = None
    tls: ssl.SSLContext | None = None
    settling_in: timedelta = timedelta(seconds=1)

    def __str__(self) -> str:
        return ",".join(map(str, self.addresses))


def read_options(url: Url) -> Options:
    """Return what the URL says. Raises `ConfigurationError`."""
    tls = _TLS if url.scheme == "amqps" else ()
    url.refuse_unknown({*_DURATIONS, "management", "prefetch", "queues", *tls})
    _refuse_classic(url)
    durations = {name: _read_duration(url, name) for name in _DURATIONS}
    if durations["heartbeat"] > _LONGEST_HEARTBEAT or durations["heartbeat"] % timedelta(seconds=1):
        raise ConfigurationError("heartbeat is counted in whole seconds, up to an hour")
    user, password = _read_user(url)
    return Options(
        addresses=_read_addresses(url),
        vhost=_read_vhost(url),
        user=user,
        password=password,
        prefetch=_read_prefetch(url),
        management=_read_management(url, user, password),
        tls=_read_tls(url.query) if url.scheme == "amqps" else None,
        **durations,
    )


def _read_duration(url: Url, name: str) -> timedelta:
    duration = to_timedelta(url.query.get(name, _DURATIONS[name]), what=name)
    if duration == ZERO:
        raise ConfigurationError(f"{name} must not be zero")
    return duration


def _read_prefetch(url: Url) -> int | None:
    text = url.query.get("prefetch")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST_PREFETCH:
        raise ConfigurationError(f"prefetch {text!r} is not a number from 1 to {_MOST_PREFETCH}")
    return int(text)


def _refuse_classic(url: Url) -> None:
    kind = url.query.get("queues", "quorum")
    if kind == "classic":
        raise ConfigurationError(
            "queues=classic would break promises: from 4.0 on RabbitMQ confirms what it has not "
            "yet forced to the disk of a classic queue, it never gives up on a message that kills "
            "its workers, and it loses delayed messages in a restart: brokerq makes quorum queues"
        )
    if kind != "quorum":
        raise ConfigurationError(f"queues={kind!r} is no kind of queue that brokerq makes: quorum")


def _read_management(url: Url, user: str | None, password: str) -> ManagementAddress | None:
    """Return where the API is; without a user of its own it is asked as the broker's."""
    text = url.query.get("management")
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port or MANAGEMENT_PORTS[parts.scheme]
    except (KeyError, ValueError):  # its text may hold the password
        parts, port = urlsplit("//"), 0
    if not parts.hostname or parts.query or parts.fragment or "@" in parts.path:
        raise ConfigurationError(
            "management is the URL of RabbitMQ's management API, as in http://user:password@host:"
            "15672, with & # % + and what is escaped in it escaped once more"
        )
    own = unquote(parts.username) if parts.username else user
    if own is None:
        raise ConfigurationError("management needs a user: a certificate is no login there")
    return ManagementAddress(
        is_secure=parts.scheme == "https",
        host=parts.hostname,
        port=port,
        path=parts.path.rstrip("/"),
        user=own,
        password=unquote(parts.password or "") if parts.username else password,
    )


def _read_user(url: Url) -> tuple[str | None, str]:
    parts = urlsplit(url.raw)
    if parts.username:
        return unquote(parts.username), unquote(parts.password or "")
    if "certfile" in url.query:
        return None, ""
    return "guest", "guest"


def _read_addresses(url: Url) -> tuple[Address, ...]:
    return tuple(_read_address(url, part.strip()) for part in url.host.split(","))


def _read_address(url: Url, text: str) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port
    except ValueError:
        parts, port = urlsplit("//"), None
    if not parts.hostname or parts.path:
        raise ConfigurationError(
            f"{url} names no host: write {url.scheme}://host, or host1,host2:5673 for several"
        )
    return Address(host=parts.hostname, port=PORTS[url.scheme] if port is None else port)


def _read_vhost(url: Url) -> str:
    """Return the virtual host: that of `amqp://host`, `/` and `/%2F` is `/`."""
    name = url.path.removeprefix("/") or "/"
    if "/" in name and name != "/":
        raise ConfigurationError(f"{url} has a path of several parts: a virtual host is one name")
    return name


def _read_tls(query: Mapping[str, str]) -> ssl.SSLContext:
    if "keyfile" in query and "certfile" not in query:
        raise ConfigurationError("keyfile is the key of certfile: name that, too")
    try:
        context = ssl.create_default_context(cafile=query.get("cafile"))
        if "certfile" in query:
            context.load_cert_chain(query["certfile"], query.get("keyfile"))
    except (OSError, ssl.SSLError) as exc:
        raise ConfigurationError(f"the files named for TLS cannot be used: {exc}") from exc
    return context
