"""What waits for what, on its way to the thread that writes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from brokerq_sqlite import calls
from brokerq_sqlite.calls import Call, CallThread, answer_all

PATIENT = 30.0


class Batches:
    """Takes calls when it is told to, and keeps how many came together."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()

    def serve(self, thread: CallThread[None]) -> None:
        self.go.wait(PATIENT)
        while (taken := thread.take(64)) is not None:
            self.sizes.append(len(taken))
            answer_all(taken)


def nothing(_: None) -> None: ...


def call(*, patient: bool, run: Callable[[None], object] = nothing) -> Call[None]:
    return Call(run, patient=patient)


async def test_a_patient_call_goes_with_the_next_one_that_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "PATIENCE", PATIENT)
    batches = Batches()
    batches.go.set()
    thread = CallThread("test", batches.serve)
    first, second, third = call(patient=True), call(patient=True), call(patient=False)
    assert thread.submit(first)
    while thread._queue.qsize():  # noqa: ASYNC110, SLF001  # pyright: ignore[reportPrivateUsage]
        await asyncio.sleep(0.001)
    assert thread.submit(second)
    assert thread.submit(third)
    for each in (first, second, third):
        await each.future
    assert batches.sizes == [3]
    thread.stop()
    thread.join()


async def test_a_patient_call_alone_does_not_wait_for_ever() -> None:
    batches = Batches()
    batches.go.set()
    thread = CallThread("test", batches.serve)
    alone = call(patient=True)
    thread.submit(alone)
    await alone.future
    assert batches.sizes == [1]
    thread.stop()
    thread.join()


async def test_a_patient_call_is_served_before_the_thread_stops() -> None:
    batches = Batches()
    thread = CallThread("test", batches.serve)
    last = call(patient=True)
    thread.submit(last)
    thread.stop()
    batches.go.set()
    await last.future
    thread.join()
    assert batches.sizes == [1]
