"""Brings about, or compares, what the plan says: on channels that are thrown away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from brokerq.broker import QueueSpec
from brokerq.errors import CapabilityError, UnknownQueueError
from brokerq.topology import Difference
from brokerq_rabbitmq.client import Channel, Link
from brokerq_rabbitmq.errors import (
    ACCESS_REFUSED,
    NOT_FOUND,
    PRECONDITION_FAILED,
    ChannelRefusedError,
)
from brokerq_rabbitmq.topology import (
    Names,
    Thing,
    levels_probe,
    plan_app,
    plan_queue,
    read_levels,
    read_refusal,
)

logger = logging.getLogger("brokerq.rabbitmq")

_AT_ONCE = 8
"""Queues whose things are made at the same time: making a quorum queue is mostly waiting."""


@dataclass(slots=True)
class Found:
    """What declaring came to.

    Attributes:
        is_new: Whether a queue was made just now.
    """

    differences: list[Difference]
    is_new: bool = False


async def declare(link: Link, names: Names, queues: Sequence[QueueSpec], *, create: bool) -> Found:
    """Make what is missing, or with `create=False` only look; return what is not as planned."""
    plans = [list(plan_queue(names, spec)) for spec in queues]
    found = Found(await _bring_about(link, plan_app(names), create=create))
    turns = asyncio.Semaphore(_AT_ONCE)

    async def declare_queue(spec: QueueSpec, things: list[Thing]) -> None:
        async with turns:
            if create and not await exists(link, names.dead(spec.name)):
                found.is_new = True
            found.differences += await _bring_about(link, things, create=create)

    try:
        async with asyncio.TaskGroup() as group:
            for spec, things in zip(queues, plans, strict=True):
                group.create_task(declare_queue(spec, things))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return found


async def exists(link: Link, queue: str) -> bool:
    """Tell whether there is a queue of that name."""
    channel = await link.channel()
    try:
        await channel.count(queue)
    except ChannelRefusedError as exc:
        if exc.code == NOT_FOUND:
            return False
        raise
    finally:
        await channel.close()
    return True


async def find_levels(link: Link, names: Names, queue: str) -> tuple[str, ...]:
    """Return the levels that a queue was declared with, by this app or another process of it.

    Raises `UnknownQueueError`.
    """
    if not await exists(link, names.dead(queue)):
        raise UnknownQueueError(f"queue {queue!r} is not declared: declare it first")
    probe = levels_probe(names, queue)
    [difference] = await _bring_about(link, [probe], create=True)
    levels = read_levels(difference)
    if levels is None:
        raise CapabilityError(
            f"RabbitMQ does not tell the levels of queue {queue!r} whole: declare it first"
        )
    return levels


async def _bring_about(link: Link, things: Iterable[Thing], *, create: bool) -> list[Difference]:
    differences: list[Difference] = []
    channel: Channel | None = None
    for thing in things:
        if channel is None or not channel.alive:
            channel = await link.channel()
        try:
            await (_make(channel, thing) if create else _compare(channel, thing))
        except ChannelRefusedError as exc:
            channel = None
            if exc.code == PRECONDITION_FAILED:
                difference = read_refusal(thing, exc.text)
            elif exc.code == NOT_FOUND:
                name = thing.name if thing.name in exc.text else thing.source
                kind = "queue" if "no queue" in exc.text else "exchange"
                difference = Difference(
                    kind=kind, name=name, setting=None, wanted=None, actual=None
                )
            else:
                raise
            differences.append(difference)
            if create and difference.setting == "levels":
                break
    if channel is not None:
        await channel.close()
    return differences


async def _make(channel: Channel, thing: Thing) -> None:
    match thing.kind:
        case "queue":
            await channel.declare_queue(thing.name, thing.arguments)
        case "exchange":
            await channel.declare_exchange(thing.name, thing.type, thing.arguments)
        case "queue binding":
            await channel.bind_queue(thing.name, thing.source, thing.key)
        case _:
            await channel.bind_exchange(thing.name, thing.source, thing.key)


async def _compare(channel: Channel, thing: Thing) -> None:
    """Look whether it exists, then declare it: which compares, and makes nothing that is there.

    What is bound to what nobody can ask.
    """
    seen = False
    try:
        match thing.kind:
            case "queue":
                await channel.count(thing.name)
                seen = True
                await channel.declare_queue(thing.name, thing.arguments)
            case "exchange":
                await channel.declare_exchange(thing.name, thing.type, {}, passive=True)
                seen = True
                await channel.declare_exchange(thing.name, thing.type, thing.arguments)
            case _:
                return
    except ChannelRefusedError as exc:
        if exc.code != ACCESS_REFUSED:
            raise
        extent = "only see that it is there" if seen else "nor see whether it is there"
        logger.warning("may not compare the %s %s, %s", thing.kind, thing.name, extent)
