"""A handle asks about one job, whoever answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from brokerq.duration import Duration
from brokerq.handle import Following, JobHandle
from brokerq.record import CancelAnswer
from brokerq.store import JobView

T = TypeVar("T")
VIEW = cast("JobView", "a view")


class Answers(Following):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def status(self, job_id: str) -> JobView:
        self.asked.append(("status", job_id))
        return VIEW

    async def wait(self, job_id: str, timeout: Duration | None) -> JobView:
        self.asked.append(("wait", job_id, timeout))
        return VIEW

    async def result(self, job_id: str, timeout: Duration | None) -> object:
        self.asked.append(("result", job_id, timeout))
        return 5

    async def cancel(self, job_id: str) -> CancelAnswer:
        self.asked.append(("cancel", job_id))
        return CancelAnswer.REQUESTED

    def run_sync(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(coroutine)


async def test_questions_are_about_its_job() -> None:
    answers = Answers()
    handle = JobHandle[int]("j-1", answers)
    assert await handle.status() is VIEW
    assert await handle.wait("1s") is VIEW
    assert await handle.result(timeout="2s") == 5
    assert await handle.cancel() == CancelAnswer.REQUESTED
    assert answers.asked == [
        ("status", "j-1"),
        ("wait", "j-1", "1s"),
        ("result", "j-1", "2s"),
        ("cancel", "j-1"),
    ]


def test_code_that_is_not_async_asks_too() -> None:
    answers = Answers()
    handle = JobHandle[int]("j-1", answers)
    assert handle.status_sync() is VIEW
    assert handle.result_sync() == 5
    assert handle.cancel_sync() == CancelAnswer.REQUESTED
    assert answers.asked == [("status", "j-1"), ("result", "j-1", None), ("cancel", "j-1")]


def test_it_shows_which_job_it_is() -> None:
    assert repr(JobHandle[int]("j-1", Answers())) == "<JobHandle j-1>"
    assert repr(JobHandle[int]("j-1", Answers(), duplicate=True)) == "<JobHandle j-1 duplicate>"
