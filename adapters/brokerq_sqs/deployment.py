"""Finds, compares and makes the app's queues."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from brokerq.broker import Lane, QueueSpec
from brokerq.errors import DriftError, UnknownQueueError
from brokerq.topology import Difference
from brokerq_sqs import topology
from brokerq_sqs.client import Client
from brokerq_sqs.persistence import Persistence
from brokerq_sqs.settings import Settings
from brokerq_sqs.topology import Attributes, Plan, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a queue is in SQS."""

    name: str
    url: str
    ordered: bool


class Deployment:
    """The queues of one app; a queue that is there is taken to stay."""

    def __init__(self, client: Client, persistence: Persistence, settings: Settings) -> None:
        self._client = client
        self._persist = persistence
        self._prefix = settings.prefix
        self._kms = settings.kms
        self._urls: dict[str, str] = {}
        self._places: dict[Lane, Place] = {}
        self._specs: dict[str, QueueSpec] = {}

    def forget(self) -> None:
        """Look anew from now on."""
        self._urls.clear()
        self._places.clear()

    def plan(self, queues: Sequence[QueueSpec]) -> list[Plan]:
        """Return what the queues need. Raises `CapabilityError`."""
        return [topology.plan(spec, prefix=self._prefix, kms=self._kms) for spec in queues]

    async def drift(self, plans: Sequence[Plan]) -> list[Difference]:
        """Return what is not as planned."""
        found = await asyncio.gather(*map(self._find_all, plans))
        return [
            difference
            for plan, there in zip(plans, found, strict=True)
            for difference in topology.differences(plan, there)
        ]

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool) -> None:
        """See `brokerq.broker.Broker.declare`."""
        plans = self.plan(queues)
        drift = await self.drift(plans)
        in_the_way = [each for each in drift if not (create and topology.can_mend(each))]
        if in_the_way:
            raise DriftError("; ".join(map(str, in_the_way)))
        if drift:
            await asyncio.gather(*map(self._bring_about, plans))
        self._specs.update({spec.name: spec for spec in queues})
        self._places.clear()

    async def _find_all(self, plan: Plan) -> dict[str, Attributes | None]:
        names = plan.names
        found = dict(zip(names, await asyncio.gather(*map(self._find, names)), strict=True))
        if found[plan.dead.name] is None:
            found[plan.other_dead] = await self._find(plan.other_dead)
        return found

    async def _find(self, name: str) -> Attributes | None:
        url = await self._url(name)
        if url is None:
            return None
        try:
            return await self._persist.call(lambda: self._client.attributes(url))
        except UnknownQueueError:  # removed since
            self._urls.pop(name, None)
            return None

    async def _bring_about(self, plan: Plan) -> None:
        """The dead letters first: a queue is never without a place for them."""
        dead = await self._make(plan.dead, {})
        target = (await self._persist.call(lambda: self._client.attributes(dead)))["QueueArn"]
        policy = topology.redrive_policy(target, ordered=plan.spec.ordered)
        for wanted in plan.levels.values():
            await self._make(wanted, {"RedrivePolicy": policy})
        sources = [topology.arn(wanted.name, like=target) for wanted in plan.levels.values()]
        allow = {"RedriveAllowPolicy": topology.allow_policy(sources)}
        await self._persist.call(lambda: self._client.set_attributes(dead, allow))

    async def _make(self, wanted: Wanted, policy: Attributes) -> str:
        url = await self._url(wanted.name)
        client = self._client
        if url is None:
            attributes = {**wanted.attributes, **policy}
            url = await self._persist.call(
                lambda: client.create(wanted.name, attributes, wanted.tags)
            )
            self._urls[wanted.name] = url
        elif "VisibilityTimeout" in wanted.attributes:
            there = url
            found = await self._persist.call(lambda: client.attributes(there))
            lease = wanted.attributes["VisibilityTimeout"]
            if int(found["VisibilityTimeout"]) < int(lease):
                change = {"VisibilityTimeout": lease}
                await self._persist.call(lambda: client.set_attributes(there, change))
        return url

    async def _url(self, name: str) -> str | None:
        url = self._urls.get(name)
        if url is None:
            url = await self._persist.call(lambda: self._client.url(name))
            if url is not None:
                self._urls[name] = url
        return url

    async def find(self, lane: Lane) -> Place:
        """Return where the lane is. Raises `UnknownQueueError`."""
        place = self._places.get(lane)
        if place is None:
            place = self._places[lane] = await self._look_for(lane)
        return place

    async def _look_for(self, lane: Lane) -> Place:
        spec = self._specs.get(lane.queue)
        if spec is not None and lane.level not in spec.levels:
            raise _unknown(lane)
        for ordered in (False, True) if spec is None else (spec.ordered,):
            name = topology.queue_name(self._prefix, lane.queue, lane.level, ordered=ordered)
            url = await self._url(name)
            if url is not None:
                return Place(name=name, url=url, ordered=ordered)
        raise _unknown(lane)

    async def find_dead(self, queue: str) -> Place:
        """Return where the queue's dead letters are. Raises `UnknownQueueError`."""
        spec = self._specs.get(queue)
        for ordered in (False, True) if spec is None else (spec.ordered,):
            name = topology.dead_name(self._prefix, queue, ordered=ordered)
            url = await self._url(name)
            if url is not None:
                return Place(name=name, url=url, ordered=ordered)
        raise UnknownQueueError(f"queue {queue!r} is not declared: declare it first")

    async def find_levels(self, queue: str) -> list[Place]:
        """Return where the queue's levels are. Raises `UnknownQueueError`."""
        spec = self._specs.get(queue)
        if spec is not None:
            levels: Sequence[str] = spec.levels
        else:
            dead = await self.find_dead(queue)
            found = await self._persist.call(lambda: self._client.attributes(dead.url))
            levels = topology.levels(found)
        return [await self.find(Lane(queue=queue, level=level)) for level in levels]

    async def attributes(self, place: Place) -> Attributes:
        """Return the attributes that a queue has now. Raises `UnknownQueueError`."""
        return await self._persist.call(lambda: self._client.attributes(place.url))

    def lease(self, queue: str) -> timedelta | None:
        """Return the lease that this process has declared."""
        spec = self._specs.get(queue)
        return None if spec is None else spec.lease


def _unknown(lane: Lane) -> UnknownQueueError:
    return UnknownQueueError(
        f"queue {lane.queue!r} with level {lane.level!r} is not declared: declare it first"
    )
