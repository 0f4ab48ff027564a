"""The URL that chooses a broker or store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from brokerq.errors import ConfigurationError

_SECRETS = frozenset({"password", "passwd", "token", "secret", "access_key", "secret_key", "key"})
_MASK = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
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
    raw: str = field(repr=False, default="")

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
        except ValueError as exc:
            raise ConfigurationError(f"the {scheme}:// URL cannot be read: {exc}") from None
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
        shown = {k: _MASK if k.lower() in _SECRETS else v for k, v in self.query.items()}
        query = f"?{urlencode(shown, safe='*/:')}" if shown else ""
        return f"{self.scheme}://{user}{self.host}{self.path}{query}"
