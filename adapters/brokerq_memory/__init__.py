"""The in-memory adapter: a broker and a store that live in one process.

`memory://` is private to the app that opens it; `memory://name` is one place for the whole process,
kept until it ends.
"""

from __future__ import annotations

import threading

from brokerq.adapter import Backend
from brokerq.clock import Clock, SystemClock
from brokerq.errors import ConfigurationError
from brokerq.url import Url
from brokerq_memory.broker import MemoryBroker
from brokerq_memory.clock import VirtualClock
from brokerq_memory.state import MemoryState
from brokerq_memory.store import MemoryStore

__all__ = ["MemoryBroker", "MemoryState", "MemoryStore", "VirtualClock", "adapter"]

_named: dict[str, MemoryState] = {}
_named_lock = threading.Lock()


def adapter(url: Url, *, prefix: str, clock: Clock) -> Backend:
    """Make broker and store over one state; see `brokerq.adapter.Factory`."""
    url.refuse_unknown(())
    if url.path not in {"", "/"}:
        raise ConfigurationError(f"memory:// takes a name and no path, got {url}")
    state = _find(url.host, clock) if url.host else MemoryState(clock)
    return Backend(
        broker=MemoryBroker(prefix=prefix, state=state),
        store=MemoryStore(prefix=prefix, clock=clock, state=state),
        any_loop=True,
    )


def _find(name: str, clock: Clock) -> MemoryState:
    with _named_lock:
        state = _named.setdefault(name, MemoryState(clock))
    both_real = isinstance(clock, SystemClock) and isinstance(state.clock, SystemClock)
    if state.clock is not clock and not both_real:
        raise ConfigurationError(
            f"memory://{name} is in use with another clock: give all its apps the same one"
        )
    return state
