"""What can be declared, and what is refused with advice."""

from __future__ import annotations

from datetime import timedelta

import pytest

from brokerq.broker import QueueSpec
from brokerq.definition import define
from brokerq.errors import ConfigurationError, UnknownJobError, UnknownQueueError
from brokerq.registry import Queue, Registry
from brokerq.retry import RetryPolicy

WINDOW = timedelta(days=5)


def queue(name: str = "payments", *levels: str, default_job: str | None = None) -> Queue:
    return Queue(spec=QueueSpec(name=name, levels=levels or ("normal",)), default_job=default_job)


async def charge() -> None: ...


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add_queue(queue("payments", "high", "normal"))
    registry.add_job(define(charge, queue="payments"), window=WINDOW)
    return registry


def test_what_was_declared_is_found(registry: Registry) -> None:
    assert registry.job("charge").function is charge
    assert registry.queue("payments").spec.levels == ("high", "normal")


def test_a_job_brings_its_queue_with_it() -> None:
    registry = Registry()
    registry.add_job(define(charge, queue="emails"), window=WINDOW)
    assert registry.queue("emails") == queue("emails")
    registry.add_queue(queue("emails", "high", "low"))  # said properly later
    assert registry.queue("emails").spec.levels == ("high", "low")


def test_two_jobs_cannot_have_one_name(registry: Registry) -> None:
    with pytest.raises(ConfigurationError, match="two jobs are named 'charge': give one of them"):
        registry.add_job(define(charge), window=WINDOW)
    registry.add_job(define(charge, name="charge_again"), window=WINDOW)


def test_a_job_has_a_name() -> None:
    with pytest.raises(ConfigurationError, match="must not be empty: leave name= out"):
        define(charge, name="")


def test_a_queue_may_be_declared_twice_the_same_way_only(registry: Registry) -> None:
    registry.add_queue(queue("payments", "high", "normal"))
    with pytest.raises(ConfigurationError, match="'payments' is declared twice"):
        registry.add_queue(queue("payments", "high", "low"))


@pytest.mark.parametrize("name", ["", "a b", "-a", "é", "a/b", "a" * 61])
def test_names_that_some_broker_cannot_carry_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="must be 1 to 60 letters, digits"):
        Registry().add_queue(queue(name))
    with pytest.raises(ConfigurationError, match="priority level name"):
        Registry().add_queue(queue("payments", name))
    with pytest.raises(ConfigurationError, match="queue name"):
        Registry().add_job(define(charge, queue=name), window=WINDOW)


def test_levels_are_named_once() -> None:
    with pytest.raises(ConfigurationError, match="each named once"):
        Registry().add_queue(queue("payments", "high", "high"))
    with pytest.raises(ConfigurationError, match="needs priority levels"):
        Registry().add_queue(Queue(spec=QueueSpec(name="payments", levels=())))


def test_a_job_must_not_outlive_its_key() -> None:
    long = define(charge, retry=RetryPolicy(max_age="6d"))
    with pytest.raises(ConfigurationError, match=r"lower max_age, or raise Limits\.window"):
        Registry().add_job(long, window=WINDOW)


def test_unknown_names_get_the_nearest_known_one(registry: Registry) -> None:
    with pytest.raises(UnknownJobError, match=r"'chrage' is registered \(did you mean 'charge'"):
        registry.job("chrage")
    with pytest.raises(UnknownJobError, match=r"'xyz' is registered$"):
        registry.job("xyz")
    with pytest.raises(UnknownQueueError, match=r"did you mean 'payments'.*declare it with bq"):
        registry.queue("paymets")


def test_a_level_is_chosen_or_refused(registry: Registry) -> None:
    payments = registry.queue("payments")
    assert registry.level(payments, None) == "normal"
    assert registry.level(payments, "high") == "high"
    with pytest.raises(UnknownQueueError, match="no priority 'low', only high, normal: declare"):
        registry.level(payments, "low")


@pytest.mark.parametrize(
    ("levels", "default"),
    [
        (("normal",), "normal"),
        (("high", "normal", "low"), "normal"),
        (("now", "soon", "someday"), "someday"),
    ],
)
def test_without_a_priority_it_is_normal_or_the_least_urgent(
    levels: tuple[str, ...], default: str
) -> None:
    assert queue("payments", *levels).default_level == default
