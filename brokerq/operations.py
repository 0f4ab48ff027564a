"""What operators, and handles, do with jobs, dead letters and queues of an open app.

Every method may be called from any event loop; the work is done on the engine's.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from brokerq.broker import Broker, DeadLetters, Inspectable, QueueStats
from brokerq.catalogue import Letter, LetterFilter, LetterState, NotRedriven, Redrive
from brokerq.duration import Duration, to_timedelta
from brokerq.errors import (
    CapabilityError,
    JobFailedError,
    NotFoundError,
    RefusedError,
    ResultUnavailableError,
    WaitTimeoutError,
)
from brokerq.handle import Following
from brokerq.options import PublishOptions
from brokerq.outbox import OutboxStats
from brokerq.publishing import Request
from brokerq.record import ENDED, CancelAnswer, State
from brokerq.redriving import redrive
from brokerq.runtime import Runtime
from brokerq.session import Session
from brokerq.store import JobFilter, JobView, Store
from brokerq.storeless import StorelessLetters
from brokerq.tally import Published
from brokerq.wire import read_head

POLL_FIRST = 0.005
POLL_LONGEST = 0.5
PAGE = 500
_WAITING = frozenset({State.RESERVED, State.SCHEDULED, State.QUEUED, State.WAITING, State.RETRYING})

P = ParamSpec("P")
T = TypeVar("T")


def store_of(runtime: Runtime) -> Store:
    """Return the store. Raises `CapabilityError` where there is none."""
    if runtime.store is None:
        raise CapabilityError(
            "nothing is remembered with none://: name a store with BROKERQ_STORE_URL to have job "
            "status, results, cancelling and a list of dead letters"
        )
    return runtime.store


class _Operations:
    def __init__(self, session: Session) -> None:
        self.session = session

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one of these methods' coroutines and block this thread until it is done."""
        return self.session.call_sync(coroutine)

    async def _store(self) -> Store:
        return store_of(await self.session.runtime())


Ops = TypeVar("Ops", bound=_Operations)


def _on_engine(
    method: Callable[Concatenate[Ops, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Ops, P], Coroutine[Any, Any, T]]:
    """Have a method of an operations class run on the engine's loop, wherever it is called."""

    @functools.wraps(method)
    async def hop(operations: Ops, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await operations.session.call(method(operations, *args, **kwargs))

    return cast("Callable[Concatenate[Ops, P], Coroutine[Any, Any, T]]", hop)


class JobOperations(_Operations, Following):
    """Jobs, by their records."""

    @_on_engine
    async def status(self, job_id: str) -> JobView:
        """Return the job's record. Raises `NotFoundError`."""
        [view] = await (await self._store()).get([job_id])
        if view is None:
            raise NotFoundError(f"there is no job {job_id}, or it is past its retention")
        return view

    @_on_engine
    async def wait(self, job_id: str, timeout: Duration | None) -> JobView:
        """Return the record once the job has ended; it is read again and again until then."""
        limit = None if timeout is None else to_timedelta(timeout, what="timeout")
        pause = POLL_FIRST
        try:
            async with asyncio.timeout(None if limit is None else limit.total_seconds()):
                while True:
                    view = await self.status(job_id)
                    if view.state in ENDED:
                        return view
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, POLL_LONGEST)
        except TimeoutError as exc:
            raise WaitTimeoutError(f"job {job_id} had not ended after {limit}") from exc

    @_on_engine
    async def result(self, job_id: str, timeout: Duration | None) -> object:
        """Return the decoded result once the job has succeeded."""
        view = await self.wait(job_id, timeout)
        if view.state != State.SUCCEEDED:
            reason = view.note or (view.failure.message if view.failure else None)
            raise JobFailedError(
                f"job {job_id} ended as {view.state}: {reason or 'no reason was recorded'}",
                state=view.state.value,
                reason=reason,
            )
        if view.result is None:
            raise ResultUnavailableError(
                f"job {job_id} succeeded, but its result is not kept: "
                f"{view.note or 'it is past its time'}"
            )
        return cast("object", json.loads(view.result))

    @_on_engine
    async def cancel(self, job_id: str) -> CancelAnswer:
        """Cancel the job. Raises `NotFoundError`."""
        return await (await self._store()).cancel(job_id)

    @_on_engine
    async def search(
        self, wanted: JobFilter, *, limit: int, after: str | None = None
    ) -> Sequence[JobView]:
        """Return records, newest first."""
        return await (await self._store()).search(wanted, limit=limit, after=after)

    @_on_engine
    async def counts(self) -> Mapping[tuple[str, State], int]:
        """Return how many jobs each queue has in each state, as (queue, state)."""
        return await (await self._store()).counts()

    @_on_engine
    async def rerun(self, job_id: str, *, body: bytes | None = None) -> Published:
        """Publish an ended job again under a new id, which names the old one as its cause.

        `body` replaces the arguments. It has no idempotency key: the old job's may still be held.
        Raises `NotFoundError`, and `RefusedError` for a job that has not ended.
        """
        view = await self.status(job_id)
        if view.state not in ENDED:
            raise RefusedError(f"job {job_id} is {view.state}: only an ended job can be rerun")
        if view.message is None:
            raise NotFoundError(f"the arguments of job {job_id} are past their retention")
        head = read_head(view.message)
        request = Request(
            job=view.job,
            queue=view.queue,
            body=view.message.body if body is None else body,
            options=PublishOptions(
                order=head.order,
                tenant=head.tenant,
                correlation=head.correlation,
                cause=job_id,
                max_attempts=head.max_attempts,
                headers=head.user,
            ),
            priority=view.level,
            tags=view.tags,
        )
        client = await self.session.client()
        [published] = await client.publish([request])
        return published


class LetterOperations(_Operations):
    """Dead letters: by the catalogue, or where there is no store by the broker's own queues."""

    @_on_engine
    async def search(
        self, wanted: LetterFilter, *, limit: int, after: str | None = None
    ) -> Sequence[Letter]:
        """Return letters, oldest job id first."""
        runtime = await self.session.runtime()
        if runtime.store is None:
            storeless = StorelessLetters(runtime.broker, runtime.registry)
            now = runtime.clock.now()
            return await storeless.search(wanted, now=now, limit=limit, after=after)
        return await runtime.store.letters(wanted, limit=limit, after=after)

    @_on_engine
    async def get(self, job_id: str) -> Letter:
        """Return the job's newest letter, whatever its state. Raises `NotFoundError`."""
        found = await self.search(LetterFilter(ids=[job_id], states=None), limit=1)
        if not found:
            raise NotFoundError(f"there is no dead letter of job {job_id}")
        return found[0]

    @_on_engine
    async def redrive(
        self, job_ids: Sequence[str], *, by: str, force: bool = False
    ) -> Sequence[Redrive | NotRedriven]:
        """Put letters back on their queues; return what came of each."""
        runtime = await self.session.runtime()
        if runtime.store is None:
            storeless = StorelessLetters(runtime.broker, runtime.registry)
            return await storeless.redrive(job_ids, now=runtime.clock.now(), force=force)
        return await redrive(runtime.broker, runtime.store, job_ids, by=by, force=force)

    @_on_engine
    async def close(
        self, job_ids: Sequence[str], *, state: LetterState, by: str, note: str | None
    ) -> Sequence[bool]:
        """Mark open letters as resolved or discarded, and remove them from the broker's queue."""
        runtime = await self.session.runtime()
        store = runtime.store
        if store is None:
            storeless = StorelessLetters(runtime.broker, runtime.registry)
            return await storeless.close(job_ids, state=state, now=runtime.clock.now())
        letters = await store.letters(LetterFilter(ids=job_ids), limit=len(job_ids))
        answers = await store.close_letters(job_ids, state=state, by=by, note=note)
        closed = {job_id for job_id, ok in zip(job_ids, answers, strict=True) if ok}
        broker = runtime.broker
        if isinstance(broker, DeadLetters):
            dead = cast("DeadLetters", broker)
            for letter in letters:
                if letter.job_id in closed:
                    await dead.discard(letter.queue, [(letter.job_id, letter.epoch)])
        return answers


class QueueOperations(_Operations):
    """Queues, by the broker; pauses, by the store."""

    @_on_engine
    async def stats(self, queues: Sequence[str] | None = None) -> Sequence[QueueStats]:
        """Return how the queues (None: all declared ones) stand.

        What is in the outbox for a queue counts as delayed there.
        """
        runtime = await self.session.runtime()
        names = list(runtime.registry.queues) if queues is None else queues
        for name in names:
            runtime.registry.queue(name)
        if runtime.store is None:
            return await _inspectable(runtime.broker).stats(names)
        kept = await runtime.store.outbox()
        return [
            replace(each, delayed=each.delayed + kept.of(each.queue).waiting)
            for each in await _inspectable(runtime.broker).stats(names)
        ]

    @_on_engine
    async def outbox(self) -> OutboxStats | None:
        """Return how the outbox stands; None where there is no store."""
        store = (await self.session.runtime()).store
        return None if store is None else await store.outbox()

    @_on_engine
    async def purge(self, queue: str) -> int:
        """Remove what waits in the queue; return how many messages.

        Every job of the queue that was published before this returns, and neither ran nor ended, is
        recorded as cancelled.
        """
        runtime = await self.session.runtime()
        runtime.registry.queue(queue)
        removed = await _inspectable(runtime.broker).purge(queue)
        store = runtime.store
        if store is None:
            return removed
        kept = (await store.outbox()).of(queue)
        await _cancel_waiting(store, queue)  # which empties the outbox, too
        return removed + kept.waiting

    @_on_engine
    async def pause(self, queue: str, *, by: str) -> None:
        """Have no worker take from the queue."""
        runtime = await self.session.runtime()
        runtime.registry.queue(queue)
        await store_of(runtime).pause(queue, by=by)

    @_on_engine
    async def resume(self, queue: str) -> None:
        """Undo a pause."""
        runtime = await self.session.runtime()
        runtime.registry.queue(queue)
        await store_of(runtime).resume(queue)

    @_on_engine
    async def paused(self) -> Collection[str]:
        """Return the queues that are paused; none where there is no store."""
        runtime = await self.session.runtime()
        return () if runtime.store is None else await runtime.store.paused()


async def _cancel_waiting(store: Store, queue: str) -> None:
    wanted = JobFilter(queue=queue, states=_WAITING)
    before = None  # ids may be made by clocks ahead of this one, or by other programs
    while views := await store.search(wanted, limit=PAGE, after=before):
        for view in views:
            await store.cancel(view.id)
        before = views[-1].id


def _inspectable(broker: Broker) -> Inspectable:
    if not isinstance(broker, Inspectable):
        raise CapabilityError("this broker cannot count or purge its queues")
    return cast("Inspectable", broker)
