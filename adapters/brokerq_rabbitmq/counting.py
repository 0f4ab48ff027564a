"""How a queue stands, by what AMQP tells anyone and by what the workers say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from brokerq.broker import QueueStats
from brokerq_rabbitmq import ladder
from brokerq_rabbitmq.census import Share, ask
from brokerq_rabbitmq.client import Link
from brokerq_rabbitmq.topology import Names

_HOP = 0.05
"""Seconds after which a message that was between two queues is in the next."""
_SILENT = Share(held=1, unread=0)
_NOTHING = Share(held=0, unread=0)


async def count(
    link: Link, sending: Link, names: Names, queue: str, lanes: Sequence[str]
) -> QueueStats:
    """Return how the queue stands; `sending`: the connection for publishing, which may be blocked.

    A message on its way from one rung to the next, or to its lane, is in no queue, and a queue that
    does not answer the broker in time counts as empty: so nothing is only nothing if seen twice.
    """
    stats = await _look(link, sending, names, queue, lanes)
    if not (stats.ready or stats.delayed):
        await asyncio.sleep(_HOP)
        stats = await _look(link, sending, names, queue, lanes)
    return stats


async def _look(
    link: Link, sending: Link, names: Names, queue: str, lanes: Sequence[str]
) -> QueueStats:
    channel = await link.channel()
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
        for answer in await ask(link, sending, names)
    ]
    return QueueStats(
        queue=queue,
        ready=ready + sum(share.unread for share in shares),
        in_flight=sum(share.held for share in shares),
        delayed=delayed,
        dead=sum(count for count, _ in letters),
        oldest=None,
    )
