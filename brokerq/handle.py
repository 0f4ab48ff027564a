"""What a publish returns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any, Generic, Protocol, TypeVar, cast

from brokerq.duration import Duration
from brokerq.record import CancelAnswer
from brokerq.store import JobView

R = TypeVar("R")
T = TypeVar("T")


class JobHandle(Generic[R]):
    """A published job.

    Every method raises `CapabilityError` where no store is in use (`none://`), and `NotFoundError`
    once the job is past its retention.

    Attributes:
        id: Job id.
        duplicate: Whether the key was held, so that this is the job that holds it.
    """

    __slots__ = ("_following", "duplicate", "id")

    def __init__(self, job_id: str, following: Following, *, duplicate: bool = False) -> None:
        self.id = job_id
        self.duplicate = duplicate
        self._following = following

    async def status(self) -> JobView:
        """Return where the job stands."""
        return await self._following.status(self.id)

    async def wait(self, timeout: Duration | None = None) -> JobView:
        """Return the job's record once it has ended, however it did.

        Raises `WaitTimeoutError` after `timeout`; the job goes on.
        """
        return await self._following.wait(self.id, timeout)

    async def result(self, timeout: Duration | None = None) -> R:
        """Return what the handler returned, as JSON gives it, once the job has succeeded.

        Raises `JobFailedError` where it ended otherwise, `ResultUnavailableError` where its result
        was not kept (too large, not JSON, or past its time), `WaitTimeoutError` after `timeout`.
        """
        return cast("R", await self._following.result(self.id, timeout))

    async def cancel(self) -> CancelAnswer:
        """End the job if it waits, ask it to end if it runs; harmless once it has ended."""
        return await self._following.cancel(self.id)

    def status_sync(self) -> JobView:
        """As `status`, for code that is not async; blocks the thread."""
        return self._following.run_sync(self._following.status(self.id))

    def result_sync(self, timeout: Duration | None = None) -> R:
        """As `result`, for code that is not async; blocks the thread."""
        return cast("R", self._following.run_sync(self._following.result(self.id, timeout)))

    def cancel_sync(self) -> CancelAnswer:
        """As `cancel`, for code that is not async; blocks the thread."""
        return self._following.run_sync(self._following.cancel(self.id))

    def __repr__(self) -> str:
        return f"<JobHandle {self.id}{' duplicate' if self.duplicate else ''}>"


class Following(Protocol):
    """What a handle asks about its job."""

    # Plain `def`, so that a wrapped method fits too.
    @abstractmethod
    def status(self, job_id: str) -> Coroutine[Any, Any, JobView]:
        """Return the job's record."""

    @abstractmethod
    def wait(self, job_id: str, timeout: Duration | None) -> Coroutine[Any, Any, JobView]:
        """Return the record once the job has ended."""

    @abstractmethod
    def result(self, job_id: str, timeout: Duration | None) -> Coroutine[Any, Any, object]:
        """Return the decoded result once the job has succeeded."""

    @abstractmethod
    def cancel(self, job_id: str) -> Coroutine[Any, Any, CancelAnswer]:
        """Cancel the job."""

    @abstractmethod
    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where the connections live, and wait for it."""
