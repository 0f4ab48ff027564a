"""Publishes jobs: keys are reserved first, records follow the broker's confirmation."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial

from brokerq.broker import Broker
from brokerq.driver import async_driver_connection, driver_connection
from brokerq.errors import (
    OUTAGE,
    BodyTooLargeError,
    BrokerqError,
    CapabilityError,
    PublishError,
)
from brokerq.hooks import Event
from brokerq.joining import Joining
from brokerq.joining import join as joining
from brokerq.parcels import Parcels, Sent
from brokerq.publishing import Labels, Parcel, Request, prepare, relabel
from brokerq.record import ReserveAnswer, Reserved
from brokerq.runtime import Runtime
from brokerq.store import Colocated, Store, Transactional
from brokerq.tally import Published, Tally

logger = logging.getLogger("brokerq.client")

RESERVATION = timedelta(seconds=30)
PENDING_POLL = timedelta(milliseconds=50)


class Client:
    """Publishes through an open app; its coroutines run on the engine's loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._colocated = _colocated(runtime.store, runtime.broker)
        self._labels: Labels = {}

    async def publish(self, requests: Sequence[Request]) -> list[Published]:
        """Return when the broker has taken all of them; in the order given.

        Raises `KeyConflictError`, or what `Broker.publish` raises. Of several requests the others
        were then still published; a `PublishError` names those that were not by position.
        """
        runtime = self._runtime
        parcels = self._parcels(requests)
        if runtime.store is None:
            await runtime.broker.publish([parcel.outgoing for parcel in parcels.all()])
            published = [Published(parcel.outgoing.id, duplicate=False) for parcel in parcels.all()]
        else:
            published = await self._publish_recorded(runtime.store, parcels)
        await self._tell(parcels, published)
        return published

    def _parcels(self, requests: Sequence[Request]) -> Parcels:
        runtime = self._runtime
        return Parcels(
            requests,
            partial(
                prepare,
                registry=runtime.registry,
                capabilities=runtime.broker.capabilities,
                new_id=runtime.new_id,
                now=runtime.clock.now(),
                outbox=runtime.store is not None,
                labels=self._labels,
            ),
        )

    async def join(self, connection: object, requests: Sequence[Request]) -> list[Published]:
        """Publish within the program's own transaction; on its loop, not on the engine's.

        Nobody is told of it, hooks neither: it may still be rolled back. Raises `CapabilityError`,
        `RefusedError`, `KeyConflictError` or `PublishError`.
        """
        store, steps = self._joining(requests)
        driver = await async_driver_connection(connection)
        try:
            step = next(steps)
            while True:
                step = steps.send(await store.join(driver, step.jobs, outbox=step.outbox))
        except StopIteration as done:
            published: list[Published] = done.value
            return published

    def join_sync(self, connection: object, requests: Sequence[Request]) -> list[Published]:
        """As `join`, in the program's thread."""
        store, steps = self._joining(requests)
        driver = driver_connection(connection)
        try:
            step = next(steps)
            while True:
                step = steps.send(store.join_sync(driver, step.jobs, outbox=step.outbox))
        except StopIteration as done:
            published: list[Published] = done.value
            return published

    def _joining(self, requests: Sequence[Request]) -> tuple[Transactional, Joining]:
        store = _transactional(self._runtime.store)
        shared = self._colocated is not None
        return store, joining(self._parcels(requests).all(), shared=shared, relabel=self._relabel)

    async def _publish_recorded(self, store: Store, parcels: Parcels) -> list[Published]:
        if self._colocated is not None and self._runtime.broker.capabilities.max_delay is None:
            # None of them belongs into an outbox, so they may be made ready one after the other.
            answers = await _publish_in_one(self._colocated, parcels)
            tally = Tally(parcels.all())
            tally.add(answers, range(len(parcels)))
        else:
            tally = Tally(parcels.all())
            now = [place for place, parcel in enumerate(tally.parcels) if not parcel.waits]
            later = [place for place, parcel in enumerate(tally.parcels) if parcel.waits]
            if now and self._colocated is not None:
                sent = [parcels[place] for place in now]
                tally.add(await _publish_in_one(self._colocated, sent), now)
            elif now:
                await self._publish_in_steps(store, tally, now)
            if later:
                await self._schedule(store, tally, later)
        await self._publish_left(store, tally)
        return tally.result()

    async def _schedule(self, store: Store, tally: Tally, places: Sequence[int]) -> None:
        parcels = [tally.parcels[place] for place in places]
        try:
            answers = await store.schedule([(p.new, p.kept) for p in parcels])
        except OUTAGE as exc:
            tally.add_error(_not_kept(exc, len(places)), places)
        else:
            tally.add_answers(answers, places)

    async def _publish_in_steps(self, store: Store, tally: Tally, places: Sequence[int]) -> None:
        parcels = tally.parcels
        plain = [place for place in places if parcels[place].new.head.key is None]
        keyed = [place for place in places if parcels[place].new.head.key is not None]
        await self._send(store, tally, {place: parcels[place] for place in plain})
        if keyed:
            await self._publish_with_keys(store, tally, keyed)

    async def _publish_with_keys(self, store: Store, tally: Tally, places: Sequence[int]) -> None:
        """Reserve the keys, publish, record: a kill in between is taken up by the next publisher.

        What another publisher has reserved, or an earlier request of these, is left.
        """
        owner = self._runtime.new_id()
        jobs = [tally.parcels[place].new for place in places]
        answers = await store.reserve(jobs, owner=owner, lease=RESERVATION)
        reserved: dict[int, Parcel] = {}
        for place, answer in zip(places, answers, strict=True):
            parcel = tally.parcels[place]
            if not isinstance(answer, Reserved):
                tally.add_answers([answer], [place])
                continue
            tally.left.pop(place, None)
            same = answer.id == parcel.outgoing.id
            reserved[place] = parcel if same else self._relabel(parcel, answer.id)
        # One taken over stays: its first publisher's message may be in the broker.
        own = {place for place in reserved if reserved[place] is tally.parcels[place]}
        try:
            failed = await self._send(store, tally, reserved)
        except (BodyTooLargeError, CapabilityError):  # nothing was sent, because of one of them
            await store.free([reserved[place].outgoing.id for place in own], owner=owner)
            raise
        if own & failed:
            await store.free([reserved[place].outgoing.id for place in own & failed], owner=owner)

    async def _send(self, store: Store, tally: Tally, parcels: Mapping[int, Parcel]) -> set[int]:
        """Publish and record; return the places of those that the broker surely did not take."""
        places = list(parcels)
        failed: set[int] = set()
        if not places:
            return failed
        try:
            await self._runtime.broker.publish([parcels[place].outgoing for place in places])
        except PublishError as exc:
            error = tally.add_error(exc, places)
            failed = set(error.failed)
            places = [place for place in places if place not in {*failed, *error.unknown}]
        await self._record(store, [parcels[place] for place in places])
        for place in places:
            tally.published[place] = Published(parcels[place].outgoing.id, duplicate=False)
        return failed

    async def _publish_left(self, store: Store, tally: Tally) -> None:
        """Ask again for keys that others have reserved, at most until their reservations end."""
        while tally.left:
            pause = min(pending.wait for pending in tally.left.values())
            await asyncio.sleep(min(pause, PENDING_POLL).total_seconds())
            now: list[int] = []
            later: list[int] = []
            for place, pending in sorted(tally.left.items()):
                parcel = tally.parcels[place]
                if parcel.waits and not pending.wait:
                    tally.parcels[place] = self._relabel(parcel, pending.id)
                (later if parcel.waits else now).append(place)
            if now:
                await self._publish_with_keys(store, tally, now)
            if later:
                await self._schedule(store, tally, later)

    def _relabel(self, parcel: Parcel, job_id: str) -> Parcel:
        can, now = self._runtime.broker.capabilities, self._runtime.clock.now()
        return relabel(parcel, can, job_id=job_id, now=now)

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

    async def _tell(self, parcels: Parcels, published: Sequence[Published]) -> None:
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
                        job=new.head.job,
                        queue=new.queue,
                    ),
                    (),
                )
                for (new, _), done in zip(parcels, published, strict=True)
                if not done.duplicate
            ]
        )


def _colocated(store: object, broker: Broker) -> Colocated | None:
    return store if isinstance(store, Colocated) and store.shares(broker) else None


async def _publish_in_one(
    colocated: Colocated, jobs: Sequence[Sent]
) -> Sequence[ReserveAnswer] | PublishError:
    try:
        return await colocated.publish_recorded(jobs)
    except PublishError as exc:
        return exc


def _transactional(store: object) -> Transactional:
    if isinstance(store, Transactional):
        return store
    raise CapabilityError(
        "there is no store that can join a transaction of yours: keep records in the database of "
        "that transaction, with BROKERQ_STORE_URL"
    )


def _not_kept(exc: BrokerqError, count: int) -> PublishError:
    error = PublishError(
        f"the store may not have taken what is to be published later: {exc}", unknown=range(count)
    )
    error.__cause__ = exc
    return error
