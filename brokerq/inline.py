"""Jobs that run in the caller, at once: for tests and for a gradual roll-out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

from brokerq.broker import Capabilities, Counting, Durability, Ordering
from brokerq.context import Context
from brokerq.definition import Definition
from brokerq.duration import Duration
from brokerq.engine.runner import call_plain
from brokerq.errors import CapabilityError, ResultUnavailableError
from brokerq.handle import Following
from brokerq.middleware import chain
from brokerq.publishing import Parcel, Request, prepare
from brokerq.record import CancelAnswer, State
from brokerq.records import unrecorded
from brokerq.registry import Registry
from brokerq.store import JobView, Transition

T = TypeVar("T")
_ANY = Capabilities(
    max_body=None,
    max_delay=timedelta(0),
    max_batch=1,
    lease=None,
    max_hold=None,
    ordering=Ordering.PER_KEY,
    delayed_ordering=False,
    max_levels=None,
    counting=Counting.NONE,
    durability=Durability.PROCESS,
    reports_lost_lease=False,
    publish_in_transaction=False,
)


async def run_inline(
    definition: Definition, request: Request, registry: Registry, *, job_id: str, now: datetime
) -> InlineJob:
    """Run the job as one attempt, in this task; what the handler raises is raised here.

    The payload takes the same way through JSON as on any broker. Refuses with `CapabilityError`
    what needs a broker: a delay or an absolute time.
    """
    [parcel] = prepare([request], registry, _ANY, new_id=lambda: job_id, now=now, outbox=False)
    head = parcel.new.head
    if parcel.delay:
        raise CapabilityError("inline mode runs jobs at once and cannot delay one")
    claimed = unrecorded(head)
    context = Context(
        head,
        claimed,
        queue=parcel.new.queue,
        max_attempts=definition.retry.max_attempts,
        hide=definition.redaction.hider(parcel.new.message.body),
    )
    arguments = definition.signature.payload.decode(parcel.new.message.body)
    first = (context,) if definition.signature.wants_context else ()

    async def call() -> object:
        if definition.signature.is_async:
            return await definition.function(*first, **arguments)
        return await asyncio.to_thread(call_plain, definition.function, first, arguments)

    timeout = definition.timeout
    async with asyncio.timeout(None if timeout is None else timeout.total_seconds()):
        result = await chain((*registry.middleware, *definition.middleware), call, context)
    return InlineJob(parcel, definition.signature.result.encode(result), context)


class InlineJob(Following):
    """A job that has run in the caller and succeeded; what its handle asks."""

    def __init__(self, parcel: Parcel, result: bytes, context: Context) -> None:
        head = parcel.new.head
        self._result = result
        self._view = JobView(
            id=head.id,
            job=head.job,
            queue=parcel.new.queue,
            level=parcel.new.level,
            state=State.SUCCEEDED,
            epoch=0,
            attempts=1,
            crashes=0,
            redrives=0,
            first_at=head.first_at,
            due_at=None,
            expires_at=head.expires_at,
            ended_at=head.first_at,
            key=head.key,
            tags=head.tags,
            correlation=head.correlation,
            cause=head.cause,
            worker="inline",
            cancelling=False,
            history=tuple(
                Transition(state=state, at=head.first_at, attempt=attempt)
                for state, attempt in (
                    (State.QUEUED, 0),
                    (State.RUNNING, 0),
                    (State.SUCCEEDED, 1),
                )
            ),
            message=parcel.new.message,
            result=result,
            failure=None,
            note=None,
            log=context.logged,
        )

    @property
    def id(self) -> str:
        """The job's id."""
        return self._view.id

    def _own(self, job_id: str) -> JobView:
        if job_id != self._view.id:
            raise ResultUnavailableError(f"job {job_id} is not the one that ran inline")
        return self._view

    async def status(self, job_id: str) -> JobView:
        """Return the record of the run."""
        return self._own(job_id)

    async def wait(self, job_id: str, timeout: Duration | None) -> JobView:  # noqa: ARG002
        """Return the record of the run: it is over."""
        return self._own(job_id)

    async def result(self, job_id: str, timeout: Duration | None) -> object:  # noqa: ARG002
        """Return what the handler returned, as JSON gives it."""
        self._own(job_id)
        value: object = json.loads(self._result)
        return value

    async def cancel(self, job_id: str) -> CancelAnswer:
        """Answer that it is too late."""
        self._own(job_id)
        return CancelAnswer.TOO_LATE

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run one of the above, none of which waits."""
        try:
            coroutine.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        raise AssertionError("an inline job's handle never waits")
