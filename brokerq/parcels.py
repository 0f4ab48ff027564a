"""Jobs on their way from a publisher to a store: the later ones are made ready meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload

from brokerq.broker import Outgoing
from brokerq.publishing import Parcel, Request
from brokerq.store import NewJob

Sent = tuple[NewJob, Outgoing]


class Parcels(Sequence[Sent]):
    """What is sent for the requests; each is made ready when it is asked for first, and once.

    Asking raises what `prepare` does.
    """

    def __init__(
        self, requests: Sequence[Request], prepare: Callable[[Sequence[Request]], list[Parcel]]
    ) -> None:
        self._requests = requests
        self._prepare = prepare
        self._ready: list[Parcel] = []
        self._sent: list[Sent] = []

    def __len__(self) -> int:
        return len(self._requests)

    @overload
    def __getitem__(self, index: int) -> Sent: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sent]: ...
    def __getitem__(self, index: int | slice) -> Sent | Sequence[Sent]:
        wanted = range(len(self))[index]
        if isinstance(wanted, int):
            self._make_ready(wanted + 1)
            return self._sent[wanted]
        if wanted:
            self._make_ready(max(wanted) + 1)
        return [self._sent[place] for place in wanted]

    def __iter__(self) -> Iterator[Sent]:
        self._make_ready(len(self))
        return iter(self._sent)

    def all(self) -> list[Parcel]:
        """Return all of them, as they were prepared."""
        self._make_ready(len(self))
        return self._ready

    def _make_ready(self, count: int) -> None:
        requests = self._requests[len(self._ready) : count]
        if requests:
            parcels = self._prepare(requests)
            self._ready += parcels
            self._sent += [(parcel.new, parcel.outgoing) for parcel in parcels]
