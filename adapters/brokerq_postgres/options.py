"""What a URL says about the database and how it is used. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from urllib.parse import quote, urlencode

from psycopg import Error
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from brokerq.duration import to_timedelta
from brokerq.errors import ConfigurationError
from brokerq.url import Url

_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,47}")
_DURATIONS = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_timeout": "1m",
    "pool_timeout": "10s",
}
_OWN = frozenset({"schema", "pool_size", "poll", "pooler", "direct", *_DURATIONS})
_POOL_SIZE = 10
_LARGEST_POOL = 1_000
_POLL = "1s"
_POLL_DEAF = "250ms"
"""Where no notifications come, polling is all there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a database is reached and used.

    Attributes:
        conninfo: For libpq, secrets included.
        direct: For what a pooler in transaction mode cannot do: listening; None: it is not done.
        schema: Where the tables are.
        pooled: Whether a pooler in transaction mode is in between: no prepared statements, no
            settings of the session.
        place: The URL without secrets, for people.
    """

    conninfo: str = field(repr=False)
    direct: str | None = field(repr=False)
    schema: str
    pool_size: int
    poll: timedelta
    pooled: bool
    statement_timeout: timedelta
    lock_timeout: timedelta
    idle_timeout: timedelta
    pool_timeout: timedelta
    place: str

    @property
    def timeouts(self) -> Mapping[str, int]:
        """The server's settings that bound what one call may cost others; milliseconds."""
        return {
            "statement_timeout": _millis(self.statement_timeout),
            "lock_timeout": _millis(self.lock_timeout),
            "idle_in_transaction_session_timeout": _millis(self.idle_timeout),
        }

    @property
    def channel(self) -> str:
        """The name under which notifications are sent; at most 63 bytes, as PostgreSQL takes."""
        return f"brokerq {self.schema}"


def read_options(url: Url) -> Options:
    """Return what the URL says. Raises `ConfigurationError`."""
    standard = {option.keyword.decode() for option in Conninfo.get_defaults()}
    url.refuse_unknown(standard | _OWN)
    own = {name: value for name, value in url.query.items() if name in _OWN}
    words = _libpq_words(url)
    pooled = own.get("pooler", "none")
    if pooled not in {"none", "transaction"}:
        raise ConfigurationError(f"{url}: pooler is {pooled!r}; it can be transaction, or none")
    schema = own.get("schema", "brokerq")
    if not _SCHEMA.fullmatch(schema):
        raise ConfigurationError(
            f"{url}: {schema!r} is no schema name here: use letters, digits, _ and -, at most 48, "
            "the first a letter or _"
        )
    timeouts = {
        name: _positive(url, name, own.get(name, default)) for name, default in _DURATIONS.items()
    }
    deaf = pooled == "transaction" and "direct" not in own
    options = Options(
        conninfo="",
        direct=None,
        schema=schema,
        pool_size=_pool_size(url, own.get("pool_size")),
        poll=_positive(url, "poll", own.get("poll", _POLL_DEAF if deaf else _POLL)),
        pooled=pooled == "transaction",
        place=str(url),
        **timeouts,
    )
    return _with_conninfo(options, words, own.get("direct"))


def _libpq_words(url: Url) -> dict[str, str]:
    """Return the parameters of the URL that are libpq's, as libpq reads them."""
    kept = {name: value for name, value in url.query.items() if name not in _OWN}
    query = urlencode(kept, quote_via=quote)  # libpq takes a plus for a plus
    bare = url.raw.partition("?")[0]
    try:
        words = conninfo_to_dict(f"{bare}?{query}" if query else bare)
    except Error:  # its text may hold the password
        raise ConfigurationError(
            f"{url} cannot be read: write postgresql://user:password@host:port/database"
        ) from None
    return {name: str(value) for name, value in words.items() if value is not None}


def _with_conninfo(options: Options, words: dict[str, str], direct: str | None) -> Options:
    words.setdefault("application_name", "brokerq")
    words.setdefault("connect_timeout", "10")
    words["client_encoding"] = "utf8"
    settings = {
        **options.timeouts,
        "jit": "off",
        # A plan that was made while a table was small would stay when it is not.
        "enable_seqscan": "off",
        # What is locked first and looked at then is to be seen as it is, whatever the default.
        "default_transaction_isolation": r"read\ committed",
    }
    told = " ".join(f"-c {name}={value}" for name, value in settings.items())
    session = {**words, "options": f"{words.get('options', '')} {told}".strip()}
    if not options.pooled:
        conninfo = make_conninfo("", **session)
        return replace(options, conninfo=conninfo, direct=conninfo)
    beside = None
    if direct is not None:
        host, _, port = direct.partition(":")
        beside = make_conninfo("", **{**session, "host": host, "port": port or "5432"})
    return replace(options, conninfo=make_conninfo("", **words), direct=beside)


def _positive(url: Url, name: str, text: str) -> timedelta:
    duration = to_timedelta(text, what=name)
    if duration < timedelta(milliseconds=1):
        raise ConfigurationError(f"{url}: {name} must be at least 1ms")
    return duration


def _pool_size(url: Url, text: str | None) -> int:
    if text is None:
        return _POOL_SIZE
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _LARGEST_POOL:
        raise ConfigurationError(f"{url}: pool_size must be a number from 1 to {_LARGEST_POOL}")
    return int(text)


def _millis(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
