"""Publishes jobs: keys are reserved first, records follow the broker's confirmation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from brokerq.broker import Broker
from brokerq.errors import (
    OUTAGE,
    BodyTooLargeError,
    CapabilityError,
    KeyConflictError,
    PublishError,
)
from brokerq.hooks import Event
from brokerq.publishing import Parcel, Request, positions, prepare, relabel
from brokerq.record import Conflict, Held, Pending
from brokerq.runtime import Runtime
from brokerq.store import Colocated, Store

logger = logging.getLogger("brokerq.client")

RESERVATION = timedelta(seconds=30)
PENDING_POLL = timedelta(milliseconds=50)


@dataclass(frozen=True, slots=True)
class Published:
    """What became of one request.

    Attributes:
        id: The job's id.
        duplicate: The key was held: this is the job that holds it, and nothing was sent.
    """

    id: str
    duplicate: bool


class Client:
    """Publishes through an open app; its coroutines run on the engine's loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._colocated = _colocated(runtime.store, runtime.broker)

    async def publish(self, requests: Sequence[Request]) -> list[Published]:
        """Return when the broker has taken all of them; in the order given.

        Raises `KeyConflictError`, or what `Broker.publish` raises. Of several requests the others
        were then still published; a `PublishError` names those that were not by position.
        """
        runtime = self._runtime
        now = runtime.clock.now()
        parcels = [
            prepare(
                request,
                runtime.registry,
                runtime.broker.capabilities,
                job_id=runtime.new_id(),
                now=now,
            )
            for request in requests
        ]
        if runtime.store is None:
            await runtime.broker.publish([parcel.outgoing for parcel in parcels])
            published = [Published(parcel.outgoing.id, duplicate=False) for parcel in parcels]
        elif self._colocated is not None:
            published = await self._publish_in_one(self._colocated, runtime.store, parcels)
        else:
            published = await self._publish_in_steps(runtime.store, parcels)
        await self._tell(parcels, published)
        return published

    async def _publish_in_one(
        self, colocated: Colocated, store: Store, parcels: Sequence[Parcel]
    ) -> list[Published]:
        answers = await colocated.publish_recorded([(p.new, p.outgoing) for p in parcels])
        published: dict[int, Published] = {}
        left: dict[int, Parcel] = {}
        errors: list[KeyConflictError] = []
        for place, (parcel, answer) in enumerate(zip(parcels, answers, strict=True)):
            if isinstance(answer, Pending):
                left[place] = parcel
            elif isinstance(answer, Conflict):
                errors.append(_conflict(answer, parcel))
            else:
                published[place] = Published(answer.id, duplicate=isinstance(answer, Held))
        published |= await self._publish_keyed(store, left, errors)
        return [published[place] for place in range(len(parcels))]

    async def _publish_in_steps(self, store: Store, parcels: Sequence[Parcel]) -> list[Published]:
        plain = [i for i, parcel in enumerate(parcels) if parcel.new.head.key is None]
        keyed = {i: p for i, p in enumerate(parcels) if p.new.head.key is not None}
        errors: list[KeyConflictError | PublishError] = []
        taken = plain
        try:
            await self._runtime.broker.publish([parcels[i].outgoing for i in plain])
        except PublishError as exc:
            failed = positions(plain, exc.failed)
            unknown = positions(plain, exc.unknown)
            errors.append(PublishError(str(exc), failed=failed, unknown=unknown))
            taken = [i for i in plain if i not in failed and i not in unknown]
        await self._record(store, [parcels[i] for i in taken])
        published = {i: Published(parcels[i].outgoing.id, duplicate=False) for i in taken}
        published |= await self._publish_keyed(store, keyed, errors)
        return [published[i] for i in range(len(parcels))]

    async def _publish_keyed(
        self,
        store: Store,
        parcels: Mapping[int, Parcel],
        errors: Sequence[KeyConflictError | PublishError],
    ) -> dict[int, Published]:
        """Publish what has keys, one after another; raise the first error when all are done."""
        found = list(errors)
        published: dict[int, Published] = {}
        for place, parcel in parcels.items():
            try:
                published[place] = await self._publish_with_key(store, parcel)
            except KeyConflictError as exc:
                found.append(exc)
            except PublishError as exc:
                failed, unknown = ((place,), ()) if exc.failed else ((), (place,))
                found.append(PublishError(str(exc), failed=failed, unknown=unknown))
        if found:
            raise found[0]
        return published

    async def _publish_with_key(self, store: Store, parcel: Parcel) -> Published:
        """Reserve the key, publish, record: a kill in between is taken up by the next publisher.

        Where another publisher holds the reservation this waits, at most until its lease ends.
        """
        runtime = self._runtime
        own_id = parcel.outgoing.id
        while True:
            [answer] = await store.reserve([parcel.new], owner=own_id, lease=RESERVATION)
            if not isinstance(answer, Pending):
                break
            wait = min(answer.wait, PENDING_POLL) if answer.wait else PENDING_POLL
            await asyncio.sleep(wait.total_seconds())
        if isinstance(answer, Conflict):
            raise _conflict(answer, parcel)
        if isinstance(answer, Held):
            return Published(answer.id, duplicate=True)
        if answer.id != own_id:
            parcel = relabel(
                parcel,
                runtime.broker.capabilities,
                job_id=answer.id,
                now=runtime.clock.now(),
            )
        try:
            await runtime.broker.publish([parcel.outgoing])
        except (PublishError, BodyTooLargeError, CapabilityError) as exc:
            unknown = isinstance(exc, PublishError) and exc.unknown
            # One taken over stays: its first publisher's message may be in the broker.
            if not unknown and answer.id == own_id:
                await store.free([own_id], owner=own_id)
            raise
        await self._record(store, [parcel])
        return Published(answer.id, duplicate=False)

    async def _record(self, store: Store, parcels: Sequence[Parcel]) -> None:
        """Record what was confirmed. The jobs are safe without it: their first claim records."""
        if not parcels:
            return
        try:
            await store.enqueue([parcel.new for parcel in parcels])
        except OUTAGE as exc:
            logger.warning(
                "published %d jobs, whose records will follow when they run: %s", len(parcels), exc
            )

    async def _tell(self, parcels: Sequence[Parcel], published: Sequence[Published]) -> None:
        hooks = self._runtime.registry.hooks
        if not hooks.wants("published"):
            return
        now = self._runtime.clock.now()
        await hooks.fire(
            [
                (
                    Event(
                        name="published",
                        at=now,
                        job_id=done.id,
                        job=parcel.new.head.job,
                        queue=parcel.new.queue,
                    ),
                    (),
                )
                for parcel, done in zip(parcels, published, strict=True)
                if not done.duplicate
            ]
        )


def _colocated(store: object, broker: Broker) -> Colocated | None:
    return store if isinstance(store, Colocated) and store.shares(broker) else None


def _conflict(answer: Conflict, parcel: Parcel) -> KeyConflictError:
    head = parcel.new.head
    return KeyConflictError(
        f"the idempotency key {head.key!r} of {head.job!r} is held by job {answer.id} with "
        "another payload",
        job_id=answer.id,
    )
