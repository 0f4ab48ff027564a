"""How an adapter is found and made: one function per URL scheme, named by an entry point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from brokerq.broker import Broker
from brokerq.clock import Clock
from brokerq.migrations import Migrations
from brokerq.store import Store
from brokerq.url import Url


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """What a URL stands for; not yet opened.

    Attributes:
        broker: None where the scheme is only a store.
        store: None where the scheme is only a broker. Both may be one database: then the store is
            `brokerq.store.Colocated` too.
        any_loop: Whether publishing may be called from any event loop and thread, once open; else
            it is carried over to brokerq's own, which costs two changes of thread.
        migrations: Of tables that people may want to bring up to date themselves.
    """

    broker: Broker | None
    store: Store | None
    any_loop: bool = False
    migrations: Migrations | None = None


class Factory(Protocol):
    """What the entry point `brokerq.adapters` of a scheme names.

    Makes no connection. Raises `ConfigurationError` for what the URL lacks or has too much.
    """

    def __call__(self, url: Url, *, prefix: str, clock: Clock) -> Backend:
        """Return the adapter for `url`; names in the broker begin with `prefix`."""
        ...
