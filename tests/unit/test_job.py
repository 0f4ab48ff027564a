"""How a job is defined, called and published."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import pytest

from brokerq.context import Context
from brokerq.definition import define
from brokerq.errors import ConfigurationError, PayloadError
from brokerq.handle import JobHandle
from brokerq.job import AnyJob, Given, Job, Publisher, make_job
from brokerq.options import PublishOptions

T = TypeVar("T")
HERE = cast("Context", "context")


async def charge(ctx: Context, order_id: str, cents: int = 5) -> str:
    """Take the money."""
    return f"{ctx} {order_id} {cents}"


def add(first: int, second: int) -> int:
    return first + second


@dataclass
class Recorder(Publisher):
    """A publisher that only remembers what it was given."""

    published: list[tuple[str, Given, PublishOptions]] = field(
        default_factory=list[tuple[str, Given, PublishOptions]]
    )

    async def publish_jobs(
        self, job: AnyJob, payloads: Sequence[Given], options: PublishOptions
    ) -> list[JobHandle[Any]]:
        self.published += [(job.name, payload, options) for payload in payloads]
        return [JobHandle(str(n), cast("Any", None)) for n in range(len(payloads))]

    def publish_jobs_sync(
        self, job: AnyJob, payloads: Sequence[Given], options: PublishOptions
    ) -> list[JobHandle[Any]]:
        return asyncio.run(self.publish_jobs(job, payloads, options))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def charging(recorder: Recorder) -> AnyJob:
    return make_job(define(charge, queue="payments"), recorder)


async def test_calling_a_job_calls_its_handler(charging: Any, recorder: Recorder) -> None:
    assert await charging(HERE, "o-1", cents=7) == "context o-1 7"
    assert cast("Any", make_job(define(add), recorder))(1, second=2) == 3
    assert recorder.published == []


def test_a_job_looks_like_its_handler(charging: Any) -> None:
    assert charging.__name__ == "charge"
    assert charging.__doc__ == "Take the money."
    assert charging.__wrapped__ is charge
    assert inspect.signature(charging) == inspect.signature(charge)
    assert repr(charging) == "<Job 'charge' on queue 'payments'>"


async def test_publishing_passes_on_what_was_given(charging: AnyJob, recorder: Recorder) -> None:
    handle = await charging.publish("o-1", cents=7)
    assert handle.id == "0"
    assert recorder.published == [("charge", (("o-1",), {"cents": 7}), PublishOptions())]


async def test_many_are_published_at_once(charging: AnyJob, recorder: Recorder) -> None:
    handles = await charging.publish_many(charging.arguments(f"o-{n}") for n in range(3))
    assert [handle.id for handle in handles] == ["0", "1", "2"]
    assert [given for _, given, _ in recorder.published] == [((f"o-{n}",), {}) for n in range(3)]


def test_code_that_is_not_async_publishes_too(charging: AnyJob, recorder: Recorder) -> None:
    assert charging.publish_sync("o-1").id == "0"
    assert len(charging.publish_many_sync([charging.arguments("o-2")])) == 1
    assert [given for _, given, _ in recorder.published] == [(("o-1",), {}), (("o-2",), {})]


def test_options_make_another_job(charging: AnyJob, recorder: Recorder) -> None:
    later = charging.options(delay="10m", queue="slow").options(priority="high")
    later.publish_sync("o-1")
    charging.publish_sync("o-2")
    assert isinstance(later, Job)
    assert later.queue == "slow"
    assert charging.queue == "payments"
    assert [options for *_, options in recorder.published] == [
        PublishOptions(delay=timedelta(minutes=10), queue="slow", priority="high"),
        PublishOptions(),
    ]


def test_a_definition_has_the_defaults() -> None:
    definition = define(charge)
    assert definition.name == "charge"
    assert definition.queue == "default"
    assert definition.timeout == timedelta(minutes=5)
    assert definition.retry.max_attempts == 3
    assert definition.run_in == "loop"
    assert definition.key({"order_id": "o-1"}) is None
    assert define(add).run_in == "thread"


def test_a_definition_is_what_was_asked_for() -> None:
    definition = define(
        charge, name="pay", timeout=None, idempotency_key="order_id", tags=["money"]
    )
    assert definition.name == "pay"
    assert definition.timeout is None
    assert definition.tags == ("money",)
    assert definition.key({"order_id": "o-1"}) == "o-1"
    assert define(add, run_in="process").run_in == "process"


def test_a_key_whose_callable_breaks_is_a_payload_error() -> None:
    def broken(**_: object) -> str:
        raise LookupError("no such order")

    with pytest.raises(PayloadError, match="no such order"):
        define(charge, idempotency_key=broken).key({"order_id": "o-1"})


@pytest.mark.parametrize(
    ("function", "given", "fault"),
    [
        (charge, {"timeout": "0s"}, "job 'charge': timeout must be longer than zero"),
        (charge, {"timeout": "soon"}, "job 'charge': timeout 'soon' is not a duration"),
        (charge, {"idempotency_key": "order"}, r"'order' is none of .* \(order_id, cents\)"),
        (charge, {"run_in": "thread"}, "an `async def` runs on the loop"),
        (add, {"run_in": "loop"}, "would hold up all other jobs"),
        (add, {"run_in": "cloud"}, "run_in is loop, thread or process, not 'cloud'"),
        (add, {"tags": "money"}, r"write \['money'\]"),
        (cast("Any", lambda: None), {}, "without a name of its own .* give name="),
    ],
)
def test_what_cannot_be_a_job_is_refused(function: Any, given: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        define(function, **given)


def test_a_lambda_with_a_name_is_a_job() -> None:
    assert define(lambda: None, name="nothing").name == "nothing"
