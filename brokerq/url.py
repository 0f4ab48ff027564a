"""The URL that chooses a broker or store."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from brokerq.errors import ConfigurationError

_SECRETS = ("password", "passwd", "token", "secret", "key")
_MASK = "***"
_USER = re.compile(r"//.*@")
"""Who logs in, in a parameter that is a URL."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Url:
    """A URL in its parts; as text, user name and secrets are masked.

    Attributes:
        host: As written: may name several hosts, and be empty.
        path: As written, with the leading slash; unquoted.
        query: Parameters by name; a repeated one is refused.
        raw: As given, secrets included: only for client libraries.
    """

    scheme: str
    host: str = ""
    path: str = ""
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    raw: str = ""

    @classmethod
    def parse(cls, text: str) -> Url:
        """Read a URL. Raises `ConfigurationError`, which shows no secret."""
        scheme, separator, _ = text.partition("://")
        if not separator or not scheme:
            raise ConfigurationError(
                "a broker URL begins with its scheme, as in sqlite:///jobs.db, memory://, "
                "amqp://host or sqs://region"
            )
        try:
            parts = urlsplit(text)
            pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:  # its text may hold the password
            raise _unreadable(scheme) from None
        if parts.fragment or _splits_a_password(parts.netloc, parts.path):
            raise _unreadable(scheme)
        query = dict(pairs)
        if len(query) < len(pairs):
            raise ConfigurationError(f"the {scheme}:// URL gives a parameter twice")
        _, _, host = parts.netloc.rpartition("@")
        return cls(
            scheme=scheme.lower(), host=host, path=unquote(parts.path), query=query, raw=text
        )

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raise `ConfigurationError` for a parameter that the adapter does not know."""
        for name in self.query:
            if name not in known:
                options = ", ".join(sorted(known)) or "none"
                raise ConfigurationError(
                    f"{self.scheme}:// does not know the parameter {name!r} (known: {options})"
                )

    def __str__(self) -> str:
        user = f"{_MASK}@" if "@" in urlsplit(self.raw).netloc else ""
        shown = {
            k: _MASK if _is_secret(k) else _USER.sub(f"//{_MASK}@", v)
            for k, v in self.query.items()
        }
        query = f"?{urlencode(shown, safe='*/:@')}" if shown else ""
        return f"{self.scheme}://{user}{self.host}{self.path}{query}"

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"


def _unreadable(scheme: str) -> ConfigurationError:
    return ConfigurationError(
        f"the {scheme}:// URL cannot be read: write / ? # @ [ ] in a user name or password as "
        "%2F %3F %23 %40 %5B %5D, and parameters as name=value"
    )


def _splits_a_password(netloc: str, path: str) -> bool:
    """Tell whether what looks like host:port/path may be user:password@host."""
    return "@" in path and ":" in netloc and "@" not in netloc


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in _SECRETS)
