"""How a queue stands, by what AMQP tells anyone, what the workers say, and the management API."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from brokerq.broker import QueueStats
from brokerq_rabbitmq import ladder
from brokerq_rabbitmq.census import Share, ask
from brokerq_rabbitmq.client import Link
from brokerq_rabbitmq.management import Management
from brokerq_rabbitmq.topology import Names

_HOP = 0.05
"""Seconds after which a message that was between two queues is in the next."""
_SILENT = Share(held=1, unread=0)
_NOTHING = Share(held=0, unread=0)


class Sources(NamedTuple):
    """Where counts come from.

    Attributes:
        sending: The connection for publishing, which may be blocked.
        management: None: not asked.
    """

    reading: Link
    sending: Link
    management: Management | None


async def count(sources: Sources, names: Names, queue: str, lanes: Sequence[str]) -> QueueStats:
    """Return how the queue stands.

    A message on its way from one rung to the next, or to its lane, is in no queue, and a queue that
    does not answer the broker in time counts as empty: so nothing is only nothing if seen twice.
    """
    stats = await _look(sources, names, queue, lanes)
    if not (stats.ready or stats.delayed):
        await asyncio.sleep(_HOP)
        stats = await _look(sources, names, queue, lanes)
    return stats


async def _look(sources: Sources, names: Names, queue: str, lanes: Sequence[str]) -> QueueStats:
    channel = await sources.reading.channel()
    try:
        # In the order in which messages move, so that none is overtaken.
        rungs = reversed(range(ladder.RUNGS))
        delayed = sum([(await channel.count(names.rung(queue, n)))[0] for n in rungs])
        ready = sum([(await channel.count(lane))[0] for lane in lanes])
        letters = [await channel.count(name) for name in names.letters(queue)]
    finally:
        await channel.close()
    shares = [
        _SILENT if answer is None else answer.get(queue, _NOTHING)
        for answer in await ask(sources.reading, sources.sending, names)
    ]
    held = sum(share.held for share in shares)
    unread = sum(share.unread for share in shares)
    if sources.management is not None:
        # Of some seconds ago: what workers have taken since then only they know.
        prefix = names.lane(queue, "")
        unsettled = await sources.management.unacknowledged(lanes, prefix=prefix)
        held = max(held, unsettled - unread)
    return QueueStats(
        queue=queue,
        ready=ready + unread,
        in_flight=held,
        delayed=delayed,
        dead=sum(count for count, _ in letters),
        oldest=None,
    )
