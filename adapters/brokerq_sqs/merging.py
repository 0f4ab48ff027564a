"""Publishes that run at the same time share calls; one that runs alone waits for nothing."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from brokerq_sqs.calls import Calls, Outcomes
from brokerq_sqs.wire import BATCH, MAX_WIRE, Entry

LINGER = 0.005
"""Seconds that messages wait for others at most, and only while a call to their queue runs."""


class Merger:
    """Sends what is published, in as few calls as its bursts allow."""

    def __init__(self, calls: Calls, *, linger: float = LINGER) -> None:
        self._calls = calls
        self._streams: defaultdict[str, _Stream] = defaultdict(lambda: _Stream(linger))

    async def send(self, url: str, entries: Sequence[Entry], *, ordered: bool) -> Outcomes:
        """Send all of them; see `Calls.send`. If this is cancelled they may be sent or not."""
        if ordered and len(entries) > 1:  # they stay in their order, call after call
            return await self._calls.send(url, entries, ordered=True)
        stream = self._streams[url]
        was_idle = stream.idle
        placed = [self._add(url, stream, entry, ordered=ordered) for entry in entries]
        if was_idle:
            stream.hurry()
        batches = dict.fromkeys(batch for batch, _ in placed)
        answers = await asyncio.gather(*(asyncio.shield(batch.sending) for batch in batches))
        outcomes = dict(zip(batches, answers, strict=True))
        return [outcomes[batch][position] for batch, position in placed]

    def _add(self, url: str, stream: _Stream, entry: Entry, *, ordered: bool) -> tuple[_Batch, int]:
        if stream.open is not None and stream.open.size + entry.packed.size > MAX_WIRE:
            stream.complete()
        batch = stream.open
        if batch is None:
            batch = stream.open = _Batch()
            batch.sending = asyncio.create_task(self._send(url, stream, batch, ordered=ordered))
        batch.entries.append(entry)
        batch.size += entry.packed.size
        if len(batch.entries) == BATCH:
            stream.complete()
        return batch, len(batch.entries) - 1

    async def _send(self, url: str, stream: _Stream, batch: _Batch, *, ordered: bool) -> Outcomes:
        await stream.turn(batch)
        try:
            return await self._calls.send(url, batch.entries, ordered=ordered)
        finally:
            stream.done()


class _Batch:
    """Messages of one call.

    Attributes:
        go: Set when there is nothing to wait for.
    """

    sending: asyncio.Task[Outcomes]

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.size = 0
        self.go = asyncio.Event()


class _Stream:
    """What is on its way to one queue.

    Attributes:
        open: What further messages join.
    """

    def __init__(self, linger: float) -> None:
        self.open: _Batch | None = None
        self._linger = linger
        self._under_way = 0

    @property
    def idle(self) -> bool:
        """Whether no call runs or waits."""
        return not self._under_way and self.open is None

    def hurry(self) -> None:
        """Let what is open wait for nothing."""
        if self.open is not None:
            self.open.go.set()

    def complete(self) -> None:
        """Let nothing more join what is open."""
        self.hurry()
        self.open = None

    async def turn(self, batch: _Batch) -> None:
        """Wait for company while a call is under way; then the batch is."""
        if self._under_way:
            try:
                async with asyncio.timeout(self._linger):
                    await batch.go.wait()
            except TimeoutError:
                pass
        if self.open is batch:
            self.open = None
        self._under_way += 1

    def done(self) -> None:
        """Learn that a call has ended: nobody waits for company when none is under way."""
        self._under_way -= 1
        if not self._under_way:
            self.hurry()
