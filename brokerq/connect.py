"""From URLs to a broker and a store: which adapter, and where records are kept. Connects nothing.

Nothing is guessed: a broker that keeps no records needs a store that is named, if only `none://`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast
from urllib.parse import quote

from brokerq.adapter import Backend, Factory
from brokerq.broker import Broker
from brokerq.clock import Clock
from brokerq.errors import (
    ConfigurationError,
    MissingExtraError,
    StorageError,
    UnknownSchemeError,
)
from brokerq.migrations import Migrations
from brokerq.store import Store
from brokerq.url import Url

GROUP = "brokerq.adapters"
FOLDER = ".brokerq"
_EXTRAS = {
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "sqs": "sqs",
    "postgresql": "postgres",
    "redis": "redis",
    "rediss": "redis",
}
_STORES_ONLY = frozenset({"redis", "rediss", "none"})
_NO_STORE = "none"
_OTHER_WORDS = {
    "rabbitmq": "amqp",
    "rabbit": "amqp",
    "postgres": "postgresql",
    "pg": "postgresql",
    "aws": "sqs",
    "mem": "memory",
    "file": "sqlite",
}
_CHOOSE_STORE = """\
{scheme}:// keeps no records: set BROKERQ_STORE_URL to one of
  postgresql://user@host/database   records in PostgreSQL, for workers on any host
  sqlite:///records.db              records in a file, for workers on one host
  none://                           no records: at least once, nothing remembered"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Backends:
    """What an app runs on; not yet opened.

    Attributes:
        store: None: nothing is remembered (`none://`).
        description: Where both are, absolute and without credentials; for people.
        any_loop: Whether publishing may be called from any event loop.
        folder: To be made before opening: where the SQLite file goes if no URL was given.
        migrations: Of the broker's tables and the store's, where they have some.
    """

    broker: Broker
    store: Store | None
    description: str
    any_loop: bool = False
    folder: Path | None = None
    migrations: Sequence[Migrations] = ()

    def make_folder(self) -> None:
        """Make the folder, and keep it out of git. Raises `StorageError`; twice is harmless."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(exist_ok=True)
            ignore = self.folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
        except OSError as exc:
            raise StorageError(
                f"the folder {self.folder} cannot be made ({exc.strerror}): "
                "set BROKERQ_URL to say where jobs are kept, as in sqlite:////var/lib/jobs.db"
            ) from exc


def check_app_name(name: str) -> str:
    """Return the name. Raises `ConfigurationError` if it cannot be part of a queue's name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", name):
        raise ConfigurationError(
            f"{name!r} is no name for an app: use letters, digits, -, _ and ., at most 40, "
            "the first a letter or digit"
        )
    return name


def open_backends(
    url: str | None,
    store_url: str | None,
    *,
    app: str,
    clock: Clock,
    cwd: Path,
    prefix: str | None = None,
    adapters: Iterable[EntryPoint] | None = None,
) -> Backends:
    """Return the broker and store that the URLs stand for.

    Args:
        url: The broker; None: the file `.brokerq/<app>.db` in `cwd`.
        store_url: The store; None: the broker's own.
        app: The app's name.
        clock: For the adapters.
        cwd: What relative paths are relative to.
        prefix: Of all names in the broker, instead of the app's name.
        adapters: What is installed; None: what the entry points say.

    Raises:
        ConfigurationError: A URL is wrong, its scheme is unknown (`UnknownSchemeError`), its client
            library is not installed (`MissingExtraError`), or the store must be named.
    """
    check_app_name(app)
    schemes = _Schemes(entry_points(group=GROUP) if adapters is None else adapters)
    folder = cwd.resolve() / FOLDER if url is None else None
    place = _file_url(folder / f"{app}.db") if folder is not None else _absolute(url or "", cwd)
    if place.scheme in _STORES_ONLY:
        raise _only_a_store(place.scheme)
    names = app if prefix is None else prefix
    backend = schemes.load(place, prefix=names, clock=clock)
    if backend.broker is None:
        raise _only_a_store(place.scheme)
    if store_url is None:
        if backend.store is None:
            raise ConfigurationError(_CHOOSE_STORE.format(scheme=place.scheme))
        return Backends(
            broker=backend.broker,
            store=backend.store,
            description=f"broker and store: {place}",
            any_loop=backend.any_loop,
            folder=folder,
            migrations=_migrations(backend),
        )
    store_place = _absolute(store_url, cwd)
    keeping = backend
    if store_place.scheme == _NO_STORE:
        store, where = None, "none: at least once, nothing is remembered"
    elif store_place.raw == place.raw:
        store, where = backend.store, str(store_place)
    else:
        keeping = schemes.load(store_place, prefix=names, clock=clock)
        store, where = keeping.store, str(store_place)
    if store is None and store_place.scheme != _NO_STORE:
        raise ConfigurationError(
            f"BROKERQ_STORE_URL: {store_place.scheme}:// is a broker and keeps no records: "
            "use postgresql://, sqlite:/// or none://"
        )
    return Backends(
        broker=backend.broker,
        store=store,
        description=f"broker: {place}; store: {where}",
        folder=folder,
        migrations=_migrations(backend, *([] if keeping is backend else [keeping])),
    )


def _migrations(*backends: Backend) -> Sequence[Migrations]:
    return [each.migrations for each in backends if each.migrations is not None]


class _Schemes:
    """The installed adapters, by URL scheme."""

    def __init__(self, adapters: Iterable[EntryPoint]) -> None:
        self._adapters = {point.name: point for point in adapters}

    def load(self, url: Url, *, prefix: str, clock: Clock) -> Backend:
        point = self._adapters.get(url.scheme)
        if point is None:
            raise UnknownSchemeError(self._unknown(url.scheme))
        try:
            factory = cast("Factory", point.load())
            return factory(url, prefix=prefix, clock=clock)
        except ImportError as exc:
            missing = (exc.name or "").partition(".")[0]
            if url.scheme not in _EXTRAS or missing.startswith("brokerq"):
                raise ConfigurationError(
                    f"the adapter for {url.scheme}:// cannot be imported: {exc}"
                ) from exc
            raise MissingExtraError(_install(url.scheme)) from exc

    def _unknown(self, scheme: str) -> str:
        known = sorted({*self._adapters, *_EXTRAS, _NO_STORE})
        near = _OTHER_WORDS.get(scheme) or next(iter(get_close_matches(scheme, known, n=1)), None)
        hint = f"did you mean {near}://? " if near else ""
        installed = ", ".join(f"{name}://" for name in sorted(self._adapters)) or "nothing"
        if scheme in _EXTRAS:
            return f"this version of brokerq has no adapter for {scheme}://. Installed: {installed}"
        return f"no adapter knows {scheme}:// - {hint}Installed: {installed}"


def _install(scheme: str) -> str:
    return (
        f"{scheme}:// needs a client library that is not installed: "
        f'pip install "brokerq[{_EXTRAS[scheme]}]"'
    )


def _only_a_store(scheme: str) -> ConfigurationError:
    return ConfigurationError(
        f"{scheme}:// is no broker, only a store: put it into BROKERQ_STORE_URL, "
        "and set BROKERQ_URL to a broker, such as sqlite:///jobs.db"
    )


def _absolute(text: str, cwd: Path) -> Url:
    """Read a URL; a file that it names is the same from any folder afterwards."""
    url = Url.parse(text)
    relative = url.path.startswith("/") and not url.path.startswith(("//", "/:"))
    if url.scheme != "sqlite" or url.host or not relative or url.path == "/":
        return url
    _, _, query = text.partition("?")
    return _file_url(cwd.resolve() / url.path[1:], query)


def _file_url(path: Path, query: str = "") -> Url:
    return Url.parse(f"sqlite:///{quote(str(path))}" + (f"?{query}" if query else ""))
