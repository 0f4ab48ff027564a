"""From arguments and options to what is sent; nothing is weakened."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from brokerq.broker import Capabilities, Counting, Durability, Lane, Ordering, QueueSpec
from brokerq.definition import define
from brokerq.duration import ZERO
from brokerq.errors import (
    BodyTooLargeError,
    CapabilityError,
    PayloadError,
    UnknownJobError,
    UnknownQueueError,
)
from brokerq.options import publish_options
from brokerq.publishing import Labels, Parcel, Request, message_size, positions, prepare, relabel
from brokerq.registry import Queue, Registry
from brokerq.requests import request_by_name, request_for
from brokerq.wire import read_head, write_headers

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
CAN = Capabilities(
    max_body=1000,
    max_delay=None,
    max_batch=10,
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


async def charge(order: str, cents: int = 5) -> None: ...


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add_queue(Queue(spec=QueueSpec(name="mixed", levels=("high", "normal"))))
    registry.add_queue(Queue(spec=QueueSpec(name="ordered", ordered=True)))
    definition = define(charge, queue="mixed", tags=["billing"], idempotency_key="order")
    registry.add_job(definition, window=timedelta(days=9))
    return registry


def packed(
    registry: Registry, can: Capabilities = CAN, *, outbox: bool = False, **options: Any
) -> Parcel:
    definition = registry.job("charge")
    payload = definition.signature.encode(("o-1",), {})
    request = request_for(definition, payload, publish_options(**options))
    [parcel] = prepare([request], registry, can, new_id=lambda: "j-1", now=NOW, outbox=outbox)
    return parcel


def test_what_is_recorded_is_what_travels(registry: Registry) -> None:
    parcel = packed(registry)
    assert parcel.outgoing.lane == Lane(queue="mixed", level="normal")
    assert (parcel.new.queue, parcel.new.level) == ("mixed", "normal")
    assert parcel.outgoing.message is parcel.new.message
    assert parcel.outgoing.message.body == b'{"order":"o-1"}'
    assert read_head(parcel.outgoing.message) == parcel.new.head
    assert (parcel.outgoing.id, parcel.new.head.id) == ("j-1", "j-1")
    assert (parcel.new.head.key, parcel.new.head.first_at) == ("o-1", NOW)
    assert parcel.new.head.fingerprint is not None


def test_options_reach_the_head(registry: Registry) -> None:
    parcel = packed(
        registry,
        priority="high",
        key="mine",
        tenant="t-1",
        correlation="c-1",
        cause="j-0",
        tags=["urgent", "billing"],
        headers={"shop": "north"},
        max_attempts=7,
        deadline="2h",
    )
    head = parcel.new.head
    assert parcel.outgoing.lane.level == "high"
    assert parcel.outgoing.tenant == "t-1"
    assert (head.key, head.correlation, head.cause, head.max_attempts) == ("mine", "c-1", "j-0", 7)
    assert head.tags == ("billing", "urgent")
    assert head.user == {"shop": "north"}
    assert head.expires_at == NOW + 2 * HOUR


@pytest.mark.parametrize(
    ("options", "delay", "instant"),
    [
        ({"delay": "1h"}, HOUR, None),
        ({"at": NOW + HOUR}, HOUR, NOW + HOUR),
        ({"at": NOW - HOUR}, ZERO, None),
        ({"delay": "0s"}, ZERO, None),
        ({}, ZERO, None),
    ],
)
def test_a_delay_is_said_to_broker_and_store_and_only_an_instant_in_the_message(
    registry: Registry, options: dict[str, Any], delay: timedelta, instant: datetime | None
) -> None:
    parcel = packed(registry, **options)
    assert parcel.outgoing.delay == delay
    assert parcel.new.head.not_before == instant
    assert parcel.new.delay == (ZERO if instant else delay)
    assert parcel.new.head.first_at == NOW + delay  # its age counts from there


@pytest.mark.parametrize(
    ("longest", "outbox", "order", "instant"),
    [
        (HOUR, False, None, None),
        (HOUR / 2, True, None, None),
        (HOUR / 2, False, None, NOW + HOUR),
        (HOUR / 2, True, "a", NOW + HOUR),
        (ZERO, False, None, NOW + HOUR),
    ],
)
def test_the_message_says_when_it_is_due_where_nobody_keeps_the_whole_delay(
    registry: Registry,
    longest: timedelta,
    order: str | None,
    instant: datetime | None,
    *,
    outbox: bool,
) -> None:
    can = replace(CAN, max_delay=longest, delayed_ordering=True)
    parcel = packed(registry, can, outbox=outbox, queue="ordered", order=order, delay="1h")
    assert parcel.new.head.not_before == instant
    assert parcel.new.delay == (ZERO if instant else HOUR)
    assert (parcel.delay, parcel.outgoing.delay) == (HOUR, min(longest, HOUR))
    if outbox:
        assert parcel.waits == (order is None)


@pytest.mark.parametrize(
    ("options", "left"), [({"delay": "1h"}, HOUR), ({"at": NOW + HOUR}, HOUR / 2)]
)
def test_the_same_job_under_another_id_half_an_hour_later(
    registry: Registry, options: dict[str, Any], left: timedelta
) -> None:
    parcel = packed(registry, **options)
    other = relabel(parcel, CAN, job_id="j-2", now=NOW + HOUR / 2)
    assert other.outgoing.id == other.new.head.id == read_head(other.new.message).id == "j-2"
    assert other.outgoing.delay == left
    assert other.new.delay == parcel.new.delay
    assert other.new.head.key == parcel.new.head.key
    assert other.new.message.body == parcel.new.message.body


def test_queues_and_levels_that_are_not_declared_are_refused(registry: Registry) -> None:
    with pytest.raises(UnknownQueueError, match=r"'mixd' is not declared \(did you mean 'mixed'"):
        packed(registry, queue="mixd")
    with pytest.raises(UnknownQueueError, match="no priority 'low', only high, normal"):
        packed(registry, priority="low")


def test_an_order_needs_a_queue_and_a_broker_that_keep_it(registry: Registry) -> None:
    assert packed(registry, queue="ordered", order="a").outgoing.order == "a"
    with pytest.raises(CapabilityError, match=r"declare it with bq.queue\('mixed', ordered=True\)"):
        packed(registry, order="a")
    with pytest.raises(CapabilityError, match="keeps no order: publish without order="):
        packed(registry, replace(CAN, ordering=Ordering.NONE), queue="ordered", order="a")
    with pytest.raises(CapabilityError, match="cannot delay a job that has an ordering key"):
        packed(registry, queue="ordered", order="a", delay="1s")
    patient = replace(CAN, delayed_ordering=True)
    assert packed(registry, patient, queue="ordered", order="a", delay="1s").outgoing.order == "a"


def test_a_message_over_the_limit_is_refused_with_both_sizes(registry: Registry) -> None:
    size = message_size(packed(registry).new.message)
    packed(registry, replace(CAN, max_body=size))
    with pytest.raises(BodyTooLargeError, match=f"'charge' has {size} bytes, this broker takes"):
        packed(registry, replace(CAN, max_body=size - 1))
    packed(registry, replace(CAN, max_body=None), headers={"long": "x" * 5000})


def test_sizes_are_in_bytes(registry: Registry) -> None:
    plain = message_size(packed(registry, headers={"a": "o"}).new.message)
    assert message_size(packed(registry, headers={"a": "ö"}).new.message) == plain + 1


def test_a_job_whose_code_is_elsewhere_needs_its_queue_named(registry: Registry) -> None:
    with pytest.raises(UnknownJobError, match="to publish it all the same, name its queue="):
        request_by_name(registry, "chrage", {}, publish_options())
    request = request_by_name(registry, "newer", {"n": 1}, publish_options(queue="elsewhere"))
    [parcel] = prepare([request], registry, CAN, new_id=lambda: "j-1", now=NOW, outbox=False)
    assert parcel.outgoing.lane == Lane(queue="elsewhere", level="normal")
    assert parcel.outgoing.message.body == b'{"n":1}'
    assert parcel.new.head.key is None


def test_a_job_without_a_name_is_refused(registry: Registry) -> None:
    with pytest.raises(UnknownJobError, match="name is empty"):
        request_by_name(registry, "", {}, publish_options(queue="mixed"))


def test_its_level_is_checked_where_the_queue_is_known(registry: Registry) -> None:
    options = publish_options(queue="mixed", priority="low")
    request = request_by_name(registry, "newer", {}, options)
    with pytest.raises(UnknownQueueError, match="no priority 'low'"):
        prepare([request], registry, CAN, new_id=lambda: "j-1", now=NOW, outbox=False)


@pytest.mark.parametrize("value", [object(), float("nan"), float("inf"), "\ud800"])
def test_arguments_that_are_no_json_are_refused_by_name_too(
    registry: Registry, value: object
) -> None:
    with pytest.raises(PayloadError, match="newer"):
        request_by_name(registry, "newer", {"n": value}, publish_options(queue="elsewhere"))


def test_a_key_by_name_has_a_fingerprint(registry: Registry) -> None:
    options = publish_options(queue="elsewhere", key="k")
    one = request_by_name(registry, "newer", {"a": 1, "b": 2}, options)
    two = request_by_name(registry, "newer", {"b": 2, "a": 1}, options)
    assert isinstance(one, Request)
    assert one.fingerprint == two.fingerprint is not None


def test_positions_are_those_in_the_whole_batch() -> None:
    assert positions([3, 5, 8], [0, 2]) == (3, 8)


def test_what_is_published_together_is_as_if_it_were_published_one_by_one(
    registry: Registry,
) -> None:
    """Ids, keys and fingerprints are each one's own; what differs in more is not taken as alike."""
    definition = registry.job("charge")
    options, urgent = publish_options(tags=["a"]), publish_options(priority="high", deadline="1h")
    requests = [
        request_for(definition, definition.signature.encode((order,), {}), each)
        for order, each in (("o-1", options), ("o-2", options), ("o-3", urgent), ("o-4", options))
    ]
    requests.append(requests[0]._replace(key=None, fingerprint=None))
    ids = [f"j-{number}" for number in range(len(requests))]

    def prepared(some: list[Request], names: list[str]) -> list[Parcel]:
        own = iter(names)
        return prepare(some, registry, CAN, new_id=lambda: next(own), now=NOW, outbox=False)

    together = prepared(requests, ids)
    apart = [prepared([each], [name])[0] for each, name in zip(requests, ids, strict=True)]
    assert together == apart
    assert [parcel.new.head.key for parcel in together] == ["o-1", "o-2", "o-3", "o-4", None]
    for parcel in together:
        assert read_head(parcel.outgoing.message) == parcel.new.head
        assert dict(parcel.outgoing.message.headers) == write_headers(parcel.new.head)


def published_again(registry: Registry, request: Request, labels: Labels, now: datetime) -> Parcel:
    [parcel] = prepare(
        [request], registry, CAN, new_id=lambda: "j-1", now=now, outbox=False, labels=labels
    )
    return parcel


@pytest.mark.parametrize("options", [{}, {"tags": ["a"]}, {"delay": "1h"}, {"deadline": "1h"}])
def test_what_is_kept_from_one_publish_to_the_next_changes_nothing(
    registry: Registry, options: dict[str, Any]
) -> None:
    definition = registry.job("charge")
    payload = definition.signature.encode(("o-1",), {})
    request = request_for(definition, payload, publish_options(**options))
    labels: Labels = {}
    published_again(registry, request, labels, NOW)
    again = published_again(registry, request, labels, NOW + HOUR)
    assert again == published_again(registry, request, {}, NOW + HOUR)
    assert read_head(again.outgoing.message) == again.new.head
    assert again.new.head.first_at >= NOW + HOUR


def test_what_is_kept_of_a_queue_ends_with_its_next_declaration(registry: Registry) -> None:
    registry.add_job(define(charge, name="plain", queue="plain"), window=30 * 24 * HOUR)
    definition = registry.job("plain")
    payload = definition.signature.encode(("o-1",), {})
    request = request_for(definition, payload, publish_options())
    labels: Labels = {}
    before = published_again(registry, request, labels, NOW)
    assert before.outgoing.lane == Lane(queue="plain", level="normal")
    registry.add_queue(Queue(spec=QueueSpec(name="plain", levels=("urgent", "idle"))))
    after = published_again(registry, request, labels, NOW)
    assert after.outgoing.lane == Lane(queue="plain", level="idle")


def test_nothing_is_kept_of_jobs_without_code(registry: Registry) -> None:
    labels: Labels = {}
    for name in ("one", "two"):
        request = Request(job=name, queue="mixed", body=b"{}", options=publish_options())
        published_again(registry, request, labels, NOW)
    assert labels == {}
