"""Jobs that AWS Lambda brings: each test calls the handler as a mapping of the queue would."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from brokerq import Context, Reject, State
from brokerq.serving import PAUSED
from tests.services import sqs
from tests.services.event_source import Context as LambdaContext
from tests.services.event_source import EventSource
from tests.services.lambda_function import Function, credentials, function, make

__all__ = ["credentials", "function", "make"]

pytestmark = pytest.mark.timeout(sqs.INSTALLATION)


def test_what_succeeds_is_deleted_by_lambda(function: Function) -> None:
    @function.bq.job()
    async def greet(name: str) -> str:
        function.done.append(name)
        return f"hello {name}"

    handles = [greet.publish_sync(name) for name in ("ada", "bob", "cy")]
    source = function.source()
    assert source.invoke(function.handler, source.gather(3), 30) == []
    assert sorted(function.done) == ["ada", "bob", "cy"]
    assert {function.state(handle.id) for handle in handles} == {State.SUCCEEDED}
    [stats] = function.bq.run_sync(function.bq.queues.stats())
    assert (stats.ready, stats.in_flight, stats.delayed) == (0, 0, 0)


def test_what_fails_stays_and_comes_again_after_its_delay(function: Function) -> None:
    @function.bq.job()
    async def work(ctx: Context, name: str) -> None:
        function.done.append((name, ctx.attempt))
        if name == "bad":
            raise ValueError(name)

    good, bad = work.publish_sync("good"), work.publish_sync("bad")
    source = function.source()
    began = time.monotonic()
    assert len(source.invoke(function.handler, source.gather(2), 30)) == 1
    assert (function.state(good.id), function.state(bad.id)) == (State.SUCCEEDED, State.RETRYING)
    assert source.poll() is None
    assert source.run(function.handler, wait=5) == []  # dead with the second: it is in -dead
    assert time.monotonic() - began >= 1
    assert function.done.count(("bad", 1)) == function.done.count(("bad", 2)) == 1
    assert function.state(bad.id) is State.DEAD
    assert function.dead() == {bad.id: "exhausted"}


def test_what_must_not_run_becomes_a_dead_letter(function: Function) -> None:
    @function.bq.job()
    async def pay(cents: int) -> None:
        raise Reject("never")

    rejected = pay.publish_sync(1)
    source = function.source()
    client = sqs.raw_client(function.endpoint)
    attribute = {"DataType": "String", "StringValue": "pay"}
    client.send_message(
        QueueUrl=source.url,
        MessageBody="no JSON",
        MessageAttributes={"bq-job": attribute},  # type: ignore[dict-item]
    )
    client.close()
    assert source.invoke(function.handler, source.gather(2), 30) == []
    reasons = function.dead()
    assert reasons.pop(rejected.id) == "rejected"
    assert list(reasons.values()) == ["undecodable"]


def test_the_same_event_twice_runs_its_jobs_once(function: Function) -> None:
    @function.bq.job()
    def work(number: int) -> None:
        function.done.append(number)

    for number in range(3):
        work.publish_sync(number)
    source = function.source()
    event = source.gather(3)
    for _ in range(2):
        assert function.handler(event, LambdaContext(30)) == {"batchItemFailures": []}
    assert sorted(function.done) == [0, 1, 2]


def test_calls_share_one_loop_and_one_session(function: Function) -> None:
    @function.bq.job()
    async def work() -> None:
        function.done.append((asyncio.get_running_loop(), threading.current_thread()))

    source: EventSource | None = None
    for _ in range(2):
        work.publish_sync()
        source = source or function.source()
        assert source.run(function.handler, wait=1) == []
    assert function.done[0] == function.done[1]


def test_when_the_time_is_up_the_rest_is_handed_back_at_once(function: Function) -> None:
    handler = function.bq.lambda_handler(concurrency=1)
    slow = threading.Event()
    slow.set()

    @function.bq.job()
    async def work(ctx: Context, number: int) -> None:
        function.done.append((number, ctx.attempt))
        if slow.is_set():
            await asyncio.sleep(60)

    handles = [work.publish_sync(number) for number in range(3)]
    source = function.source()
    event = source.gather(3)
    began = time.monotonic()
    failed = source.invoke(handler, event, 4)
    assert 3 <= time.monotonic() - began < 6
    assert sorted(failed) == sorted(record["messageId"] for record in event["Records"])
    assert len(function.done) == 1
    slow.clear()
    while (answer := source.run(handler)) is not None:  # no wait: they are visible already
        assert answer == []
    assert {function.state(handle.id) for handle in handles} == {State.SUCCEEDED}
    assert {attempt for _, attempt in function.done} == {1}


def test_a_thread_that_does_not_give_way_does_not_cost_the_others(function: Function) -> None:
    go = threading.Event()

    @function.bq.job()
    def work(number: int) -> None:
        if number == 0:
            go.wait(60)
        function.done.append(number)

    first, *others = [work.publish_sync(number) for number in range(3)]
    source = function.source()
    event = source.gather(3)
    began = time.monotonic()
    failed = source.invoke(function.handler, event, 4)
    assert time.monotonic() - began < 6
    go.set()
    assert len(failed) == 1
    assert {function.state(each.id) for each in others} == {State.SUCCEEDED}
    assert function.state(first.id) is State.RUNNING


@pytest.mark.parametrize("emulator", [sqs.ministack, sqs.localstack])
def test_of_an_ordered_queue_nothing_overtakes_what_failed(
    make: Callable[..., Function], emulator: Callable[[], str]
) -> None:
    function = make(endpoint=emulator())
    function.bq.queue("orders", ordered=True)

    @function.bq.job(queue="orders")
    async def work(ctx: Context, key: str, number: int) -> None:
        function.done.append((key, number, ctx.attempt))
        if (key, number, ctx.attempt) == ("a", 1, 1):
            raise ValueError(key)

    for number in range(3):
        for key in ("a", "b"):
            work.options(order=key).publish_sync(key, number)
    source = function.source("orders.fifo")
    event = source.gather(6)
    groups = [record["attributes"]["MessageGroupId"] for record in event["Records"]]
    assert sorted(groups) == ["a"] * 3 + ["b"] * 3
    failed = source.invoke(function.handler, event, 30)
    assert len(failed) == 2  # the one that failed, and the one after it
    until = time.monotonic() + 10
    while len(function.done) < 7 and time.monotonic() < until:
        source.run(function.handler, wait=1)
    assert [entry for entry in function.done if entry[0] == "a"] == [
        ("a", 0, 1),
        ("a", 1, 1),
        ("a", 1, 2),
        ("a", 2, 1),
    ]
    assert [entry for entry in function.done if entry[0] == "b"] == [("b", n, 1) for n in range(3)]


def test_in_an_ordered_queue_a_death_lets_the_next_one_go(function: Function) -> None:
    function.bq.queue("orders", ordered=True)

    @function.bq.job(queue="orders")
    async def work(number: int) -> None:
        function.done.append(number)
        if number == 0:
            raise Reject("never")

    first, _ = [work.options(order="k").publish_sync(number) for number in range(2)]
    assert function.source("orders.fifo").run(function.handler) == []
    assert function.done == [0, 1]
    assert function.dead("orders-dead.fifo") == {first.id: "rejected"}


def test_a_level_is_a_queue_of_its_own(function: Function) -> None:
    function.bq.queue("mail", priorities=("high", "normal"))

    @function.bq.job(queue="mail")
    async def work(ctx: Context) -> None:
        function.done.append(ctx.id)

    urgent, plain = work.options(priority="high").publish_sync(), work.publish_sync()
    assert function.source("mail__high").run(function.handler) == []
    assert function.done == [urgent.id]
    assert function.source("mail").run(function.handler) == []
    assert function.done == [urgent.id, plain.id]


def test_without_a_store_a_retry_is_a_copy(make: Callable[..., Function]) -> None:
    function = make(store="none://")

    @function.bq.job()
    async def work(ctx: Context) -> None:
        function.done.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError

    work.publish_sync()
    source = function.source()
    assert source.run(function.handler) == []
    assert source.run(function.handler, wait=5) == []
    assert function.done == [1, 2]


def test_a_paused_queue_s_messages_go_back(function: Function) -> None:
    @function.bq.job()
    async def work(number: int) -> None:
        function.done.append(number)

    for number in range(2):
        work.publish_sync(number)
    function.bq.run_sync(function.bq.queues.pause("default", by="a test"))
    source = function.source()
    event = source.gather(2)
    began = time.monotonic()
    failed = source.invoke(function.handler, event, 30)
    assert len(failed) == 2
    assert time.monotonic() - began < PAUSED.total_seconds()
    assert source.poll() is None
    assert function.done == []


def test_a_queue_that_is_paused_meanwhile_is_left(function: Function) -> None:
    handler = function.bq.lambda_handler(concurrency=1)

    @function.bq.job()
    async def work(number: int) -> None:
        function.done.append(number)
        await function.bq.queues.pause("default", by="a test")
        await asyncio.sleep(2)  # the worker looks every second

    for number in range(5):
        work.publish_sync(number)
    source = function.source()
    event = source.gather(5)
    began = time.monotonic()
    failed = source.invoke(handler, event, 60)
    assert time.monotonic() - began < 30
    assert len(function.done) == 1
    assert len(failed) == 4


def test_what_is_done_early_stays_hidden_until_the_function_returns(function: Function) -> None:
    function.bq.queue("mail", lease="2s")

    @function.bq.job(queue="mail")
    async def work(seconds: float) -> None:
        function.done.append(seconds)
        await asyncio.sleep(seconds)

    for length in (1, 3.5):
        work.publish_sync(length)
    source = function.source("mail")
    event = source.gather(2)
    seen: list[object] = []
    timer = threading.Timer(3, lambda: seen.append(source.poll()))
    timer.start()
    assert source.invoke(function.handler, event, 30) == []
    timer.join()
    assert seen == [None]
    assert sorted(function.done) == [1, 3.5]


def test_closing_the_app_ends_a_call_and_hands_everything_back(function: Function) -> None:
    begun = threading.Event()

    @function.bq.job()
    async def work() -> None:
        begun.set()
        await asyncio.sleep(60)

    work.publish_sync()
    source = function.source()
    event = source.gather(1)
    answers: list[object] = []
    call = threading.Thread(
        target=lambda: answers.append(function.handler(event, LambdaContext(60)))
    )
    call.start()
    assert begun.wait(10)
    function.bq.close_sync()
    call.join(10)
    [record] = event["Records"]
    assert answers == [{"batchItemFailures": [{"itemIdentifier": record["messageId"]}]}]
    assert len(source.gather(1)["Records"]) == 1
