"""Handlers with a process of their own: what they can do, and how they are killed."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from brokerq_memory import MemoryStore

from brokerq import BrokerQ, Context, Event, RetryPolicy, State
from brokerq.dead_letter import describe, group_of
from brokerq.job import AnyJob
from brokerq.middleware import CallNext
from brokerq.record import Hold
from brokerq.store import Holding
from tests.engine import process_jobs
from tests.engine.conftest import ONCE, SHORT_LEASE, eventually, letters_of, working
from tests.engine.pids import are_gone, hanging

AT_ONCE = RetryPolicy(max_attempts=2, initial="5ms", jitter="none")
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def bq() -> AsyncIterator[BrokerQ]:
    bq = BrokerQ("shop", url=f"memory://{uuid4()}", retry=AT_ONCE)
    bq.queue("default", lease=SHORT_LEASE)
    async with bq:
        yield bq


def in_process(
    bq: BrokerQ,
    function: Callable[..., Any],
    *,
    retry: RetryPolicy = AT_ONCE,
    timeout: str | None = None,
) -> AnyJob:
    job: AnyJob = bq.job(run_in="process", retry=retry, timeout=timeout)(function)
    return job


async def test_the_handler_knows_its_job_and_its_log_is_kept(bq: BrokerQ) -> None:
    job = in_process(bq, process_jobs.introduce)
    options = job.options(key="k", tags=["a"], headers={"h": "1"}, correlation="c")
    handle = await options.publish("Ada", loud=True)
    await bq.run_worker(burst=True)
    seen = await handle.result()
    view = await handle.status()
    assert seen.pop("pid") != os.getpid()
    assert seen.pop("fence") >= 1
    assert seen == {
        "cancelled": False,
        "id": handle.id,
        "job": "introduce",
        "queue": "default",
        "attempt": 1,
        "max_attempts": 2,
        "effect_key": "introduce:k",
        "correlation": "c",
        "tags": ["a"],
        "headers": {"h": "1"},
        "first_at": view.first_at.isoformat(),
    }
    assert view.log is not None
    assert [line.split(" ", 1)[1] for line in view.log] == [
        "info introducing name='Ada'",
        "warning loud",
    ]


async def test_a_job_is_found_where_its_decorator_left_it() -> None:
    bq = process_jobs.app
    async with bq:
        handle = await process_jobs.double.publish(21)
        await bq.run_worker(burst=True)
        assert await handle.result() == 42


async def test_children_are_used_again_and_are_no_more_than_the_slots(bq: BrokerQ) -> None:
    job = in_process(bq, process_jobs.pid)
    handles = await job.publish_many(job.arguments() for _ in range(12))
    await bq.run_worker(burst=True, concurrency=2)
    pids = {await handle.result() for handle in handles}
    assert 1 <= len(pids) <= 2
    assert are_gone(list(pids))


async def test_jobs_run_beside_each_other(bq: BrokerQ) -> None:
    job = in_process(bq, process_jobs.pid_after)
    handles = await job.publish_many(job.arguments(0.5) for _ in range(2))
    await bq.run_worker(burst=True, concurrency=2)
    assert len({await handle.result() for handle in handles}) == 2


@pytest.mark.parametrize(
    ("how", "state", "reason", "error"),
    [
        ("reject", State.DEAD, "rejected", "brokerq.outcome.Reject: never"),
        ("retry", State.SUCCEEDED, None, "brokerq.outcome.RetryAfter: busy"),
        ("drop", State.SKIPPED, None, None),
        ("odd", State.DEAD, "rejected", "tests.engine.process_jobs.OddlyMadeError: 418: teapot"),
        ("exit", State.SUCCEEDED, None, "SystemExit: 3"),
        ("stop", State.SUCCEEDED, None, "RuntimeError: coroutine raised StopIteration"),
        (
            "local",
            State.SUCCEEDED,
            None,
            "brokerq.engine.crossing.HandlerError: fail.<locals>.LocalError: nobody knows me",
        ),
        ("other", State.SUCCEEDED, None, "KeyError: 'other'"),
    ],
)
async def test_what_a_handler_raises_means_what_it_means_elsewhere(
    bq: BrokerQ, how: str, state: State, reason: str | None, error: str | None
) -> None:
    policy = RetryPolicy(
        max_attempts=2,
        initial="5ms",
        jitter="none",
        on={process_jobs.OddlyMadeError: lambda e: "reject" if vars(e)["code"] == 418 else "retry"},
    )
    failures: list[str] = []

    def note(event: Event) -> None:
        assert event.error is not None
        failure = describe(event.error)
        failures.append(f"{failure.type}: {failure.message}")

    bq.on("failed")(note)
    handle = await in_process(bq, process_jobs.fail, retry=policy).publish(how)
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert view.state == state
    assert view.log is not None
    assert "about to fail" in view.log[0]
    assert failures == ([] if error is None else [error])
    assert [letter.reason for letter in await letters_of(bq)] == ([reason] if reason else [])


async def test_a_snoozed_job_waits(bq: BrokerQ) -> None:
    handle = await in_process(bq, process_jobs.fail).publish("snooze")
    await bq.process()
    view = await handle.status()
    assert (view.state, view.attempts, view.note) == (State.SCHEDULED, 0, "later")


async def test_a_dead_letter_shows_the_traceback_from_the_child(bq: BrokerQ) -> None:
    await in_process(bq, process_jobs.fail, retry=ONCE).publish("other")
    await bq.run_worker(burst=True)
    [letter] = await letters_of(bq)
    assert "process_jobs.py" in letter.message.headers["bq-dead-traceback"]
    assert "raise KeyError(how)" in letter.message.headers["bq-dead-traceback"]
    local = group_of("exhausted", "fail", KeyError("other"))
    assert letter.group != local  # it has a place: where the child raised it


async def test_a_result_that_cannot_be_pickled_is_kept_as_json(bq: BrokerQ) -> None:
    handle = await in_process(bq, process_jobs.lines).publish()
    await bq.run_worker(burst=True)
    assert await handle.result() == [0, 1, 2]


async def test_a_result_that_cannot_be_encoded_is_recorded_as_such(bq: BrokerQ) -> None:
    handle = await in_process(bq, process_jobs.lock).publish()
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert view.state == State.SUCCEEDED
    assert view.note is not None
    assert "the result (_MainThread) cannot be encoded as JSON" in view.note


async def test_middleware_stands_around_it_in_the_worker(bq: BrokerQ) -> None:
    seen: list[object] = []

    async def around(ctx: Context, call_next: CallNext) -> object:
        ctx.log.info("before")
        result = await call_next()
        ctx.log.info("after")
        seen.append(result["pid"] != os.getpid())
        return "replaced"

    bq.use(around)
    handle = await in_process(bq, process_jobs.introduce).publish("Ada")
    await bq.run_worker(burst=True)
    assert seen == [True]
    assert await handle.result() == "replaced"
    log = (await handle.status()).log
    assert log is not None
    assert [line.split()[2] for line in log] == ["before", "introducing", "quiet", "after"]


async def test_what_a_job_left_behind_cannot_speak_in_another_jobs_log(bq: BrokerQ) -> None:
    talker, other = in_process(bq, process_jobs.talk_on), in_process(bq, process_jobs.pid_after)
    await talker.publish()
    handle = await other.publish(0.4)
    await bq.run_worker(burst=True, concurrency=1)
    view = await handle.status()
    assert (view.state, view.log) == (State.SUCCEEDED, ())


async def test_the_timeout_kills_the_handler_and_what_it_started(
    bq: BrokerQ, tmp_path: Path
) -> None:
    job = in_process(bq, process_jobs.hang, retry=ONCE, timeout="300ms")
    handle = await job.publish(str(tmp_path))
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert view.failure is not None
    assert view.failure.message == "ran longer than its timeout of 300ms"
    assert (view.state, view.attempts) == (State.DEAD, 1)
    assert view.log is not None
    assert "hanging" in view.log[0]
    assert are_gone(hanging(tmp_path)[:1])
    await eventually(lambda: are_gone(hanging(tmp_path)))


async def test_the_start_of_a_child_is_no_part_of_the_timeout(bq: BrokerQ) -> None:
    job = in_process(bq, process_jobs.pid, retry=ONCE, timeout="50ms")
    handle = await job.publish()
    await bq.run_worker(burst=True)
    assert (await handle.status()).state == State.SUCCEEDED


async def test_cancelling_kills_it(bq: BrokerQ, tmp_path: Path) -> None:
    handle = await in_process(bq, process_jobs.hang).publish(str(tmp_path))
    async with working(bq):
        await eventually(lambda: bool(hanging(tmp_path)))
        await handle.cancel()
        view = await handle.wait("30s")
    assert (view.state, view.attempts) == (State.CANCELLED, 0)
    assert are_gone(hanging(tmp_path)[:1])


async def test_a_lost_lease_kills_it(
    bq: BrokerQ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Holding] = []
    renew = MemoryStore.renew

    async def lose(
        store: MemoryStore, holdings: Sequence[Holding], *, lease: timedelta
    ) -> Sequence[Hold]:
        if lost or not hanging(tmp_path):
            return await renew(store, holdings, lease=lease)
        lost.extend(holdings)
        return [Hold.LOST for _ in holdings]

    monkeypatch.setattr(MemoryStore, "renew", lose)
    handle = await in_process(bq, process_jobs.hang).publish(str(tmp_path))
    await bq.run_worker(burst=True)
    assert [holding.id for holding in lost] == [handle.id]
    assert are_gone(hanging(tmp_path)[:1])
    view = await handle.status()
    assert (view.state, view.attempts) == (State.SUCCEEDED, 1)


async def test_the_end_of_the_grace_kills_it_and_counts_no_attempt(
    bq: BrokerQ, tmp_path: Path
) -> None:
    handle = await in_process(bq, process_jobs.hang, retry=ONCE).publish(str(tmp_path))
    async with working(bq, grace="0s") as worker:
        await eventually(lambda: bool(hanging(tmp_path)))
    report = await worker
    assert (report.outcomes, report.abandoned) == ({"queued": 1}, 0)
    assert are_gone(hanging(tmp_path)[:1])
    await bq.run_worker(burst=True)
    view = await handle.status()
    assert (view.state, view.attempts, view.crashes) == (State.SUCCEEDED, 1, 0)


@pytest.mark.parametrize(
    ("how", "words"),
    [("segfault", "killed by SIGSEGV"), ("exit", "exited with code 3")],
)
async def test_a_child_that_dies_is_a_failed_attempt_and_the_next_job_runs(
    bq: BrokerQ, how: str, words: str
) -> None:
    dying = await in_process(bq, process_jobs.die, retry=ONCE).publish(how)
    next_one = await in_process(bq, process_jobs.pid).publish()
    await bq.run_worker(burst=True, concurrency=1)
    view = await dying.status()
    assert (view.state, view.attempts, view.crashes) == (State.DEAD, 1, 0)
    assert view.failure is not None
    assert view.failure.type == "brokerq.outcome.ProcessDiedError"
    assert words in view.failure.message
    assert (await next_one.status()).state == State.SUCCEEDED


async def test_the_death_of_an_idle_child_is_nobodys_fault(bq: BrokerQ) -> None:
    job = in_process(bq, process_jobs.pid, retry=ONCE)
    first = await job.publish()
    async with working(bq):
        pid = await first.result("10s")
        os.kill(pid, signal.SIGKILL)
        second = await job.publish()
        assert await second.result("10s") != pid


async def test_signals_that_stop_a_worker_do_not_stop_its_children(bq: BrokerQ) -> None:
    unmoved = await in_process(bq, process_jobs.ignore_signals).publish()
    stopped = await in_process(bq, process_jobs.run_stubborn_program).publish()
    await bq.run_worker(burst=True)
    assert await unmoved.result() == "unmoved"
    assert await stopped.result() == -signal.SIGTERM


async def test_inline_mode_runs_it_in_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKERQ_MODE", "inline")
    bq = BrokerQ("inline", url="memory://")
    handle = await in_process(bq, process_jobs.pid).publish()
    assert await handle.result() == os.getpid()
