"""The data-plane calls for any number of entries: in batches, tried again, all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import TypeVar

from brokerq_sqs.client import Client, Failure, Failures
from brokerq_sqs.persistence import Persistence
from brokerq_sqs.wire import BATCH, Entry, batches

E = TypeVar("E")
Outcomes = list[Failure | None]
"""None for each entry that was carried out."""


class Calls:
    """Sends, deletes and changes visibilities."""

    def __init__(self, client: Client, persistence: Persistence) -> None:
        self._client = client
        self._persistence = persistence

    async def send(self, url: str, entries: Sequence[Entry], *, ordered: bool) -> Outcomes:
        """Send all of them; on an ordered queue one batch after another."""
        sizes = [entry.packed.size for entry in entries]
        parts = [[entries[place] for place in part] for part in batches(sizes)]

        def send(part: Sequence[Entry]) -> Awaitable[Failures]:
            return self._client.send_batch(url, part)

        if ordered:
            return list(chain(*[await self._persistence.batch(part, send) for part in parts]))
        return await self._all(parts, send)

    async def delete(
        self, url: str, handles: Sequence[str], *, within: float | None = None
    ) -> Outcomes:
        """Delete what was delivered; `within`: seconds until the first of these leases ends."""
        return await self._all(
            _tens(handles), lambda part: self._client.delete_batch(url, part), within
        )

    async def change_visibility(
        self, url: str, changes: Sequence[tuple[str, int]], *, within: float | None = None
    ) -> Outcomes:
        """Let deliveries come back so many seconds from now; `within` as for `delete`."""
        return await self._all(
            _tens(changes), lambda part: self._client.change_visibility_batch(url, part), within
        )

    async def _all(
        self,
        parts: Sequence[Sequence[E]],
        call: Callable[[Sequence[E]], Awaitable[Failures]],
        within: float | None = None,
    ) -> Outcomes:
        batch = self._persistence.batch
        if len(parts) == 1:
            return await batch(parts[0], call, within=within)
        done = await asyncio.gather(*(batch(part, call, within=within) for part in parts))
        return list(chain(*done))


def _tens(entries: Sequence[E]) -> list[Sequence[E]]:
    return [entries[start : start + BATCH] for start in range(0, len(entries), BATCH)]
