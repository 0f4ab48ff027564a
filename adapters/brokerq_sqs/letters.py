"""Reads a queue of dead letters: all of it is held for a moment, since SQS has no other way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from brokerq.message import Message
from brokerq_sqs.calls import Calls
from brokerq_sqs.client import Client
from brokerq_sqs.deployment import Place
from brokerq_sqs.persistence import Persistence
from brokerq_sqs.wire import BATCH, letter_key, unpack

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

HOLD = 120
"""Seconds for which a letter is out of others' sight while it is read."""
_PAGE = 1_000
_LAST_WAIT = 1
"""Seconds; a poll that does not wait asks only some of SQS's servers."""


class Scan:
    """One pass over a queue, which gives back at its end what was not removed."""

    def __init__(
        self, client: Client, calls: Calls, persistence: Persistence, place: Place
    ) -> None:
        self._client = client
        self._calls = calls
        self._persistence = persistence
        self._place = place
        self._held: dict[str, str] = {}
        self._receiving: asyncio.Future[Sequence[MessageTypeDef]] | None = None

    async def pages(self) -> AsyncIterator[Sequence[MessageTypeDef]]:
        """Yield all messages, about a thousand at a time, each page in the order of sending."""
        seen: set[str] = set()
        while True:
            page: list[MessageTypeDef] = []
            found = await self._receive()
            while found:
                fresh = [raw for raw in found if raw.get("MessageId") not in seen]
                seen.update(raw.get("MessageId", "") for raw in fresh)
                page += fresh
                if len(page) >= _PAGE or not fresh:
                    break
                found = await self._receive()
            yield sorted(page, key=_sent_at)
            if len(page) < _PAGE:
                return

    async def _receive(self) -> Sequence[MessageTypeDef]:
        """Receive; where this is cancelled, what comes all the same is given back by `finish`."""
        self._receiving = asyncio.ensure_future(
            self._persistence.call(
                lambda: self._client.receive(
                    self._place.url, limit=BATCH, visibility=HOLD, wait=_LAST_WAIT
                )
            )
        )
        return self._hold(await asyncio.shield(self._receiving))

    def _hold(self, found: Sequence[MessageTypeDef]) -> Sequence[MessageTypeDef]:
        self._held.update((raw.get("MessageId", ""), raw.get("ReceiptHandle", "")) for raw in found)
        self._receiving = None
        return found

    async def remove(self, messages: Sequence[MessageTypeDef]) -> int:
        """Delete them; return how many were."""
        ids = [raw.get("MessageId", "") for raw in messages]
        outcomes = await self._calls.delete(self._place.url, [self._held.pop(id_) for id_ in ids])
        return sum(failure is None for failure in outcomes)

    def release(self, message: MessageTypeDef) -> None:
        """Leave a message to somebody else, who will remove it or give it back."""
        del self._held[message.get("MessageId", "")]

    async def finish(self) -> None:
        """Give back the rest."""
        if self._receiving is not None:
            await asyncio.wait([self._receiving])
            if self._receiving.exception() is None:
                self._hold(self._receiving.result())
        changes = [(handle, 0) for handle in self._held.values()]
        self._held.clear()
        if changes:
            await self._calls.change_visibility(self._place.url, changes)


def _sent_at(raw: MessageTypeDef) -> int:
    return int((raw.get("Attributes") or {}).get("SentTimestamp", "0"))


@asynccontextmanager
async def browse(scan: Scan) -> AsyncGenerator[AsyncIterator[Message]]:
    """See `brokerq.broker.DeadLetters.browse`; the oldest first within a thousand."""
    letters = _messages(scan)
    try:
        yield letters
    finally:
        await letters.aclose()
        await scan.finish()


async def _messages(scan: Scan) -> AsyncGenerator[Message]:
    async for page in scan.pages():
        for raw in page:
            yield unpack(raw).message


async def discard(scan: Scan, letters: Collection[tuple[str, int]]) -> int:
    """See `brokerq.broker.DeadLetters.discard`."""
    unwanted = frozenset[tuple[str | None, int | None]](letters)
    removed = 0
    try:
        async for page in scan.pages():
            named = [raw for raw in page if letter_key(unpack(raw).message) in unwanted]
            removed += await scan.remove(named) if named else 0
    finally:
        await scan.finish()
    return removed
