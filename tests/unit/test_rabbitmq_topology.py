"""Names that cannot meet, a plan that keeps messages, and refusals that are understood."""

from __future__ import annotations

from itertools import combinations

import pytest
from brokerq_rabbitmq import ladder
from brokerq_rabbitmq.topology import (
    DELIVERY_LIMIT,
    MARK,
    NO_LIMIT,
    Names,
    Thing,
    permissions,
    plan_app,
    plan_queue,
    read_levels,
    read_refusal,
)

from brokerq.broker import QueueSpec
from brokerq.errors import CapabilityError
from brokerq.topology import Difference

NAMES = Names("shop")
SPEC = QueueSpec(name="mail", levels=("high", "normal"))
DEAD = Thing(
    kind="queue", name="shop:mail.dead", arguments={MARK: "high,normal", "x-delivery-limit": 5}
)


def queues(spec: QueueSpec, prefix: str = "shop") -> dict[str, Thing]:
    names = Names(prefix)
    things = [*plan_app(names), *plan_queue(names, spec)]
    return {thing.name: thing for thing in things if thing.kind == "queue"}


def test_no_two_apps_queues_or_levels_share_a_name() -> None:
    specs = [
        QueueSpec(name=name, levels=("normal", "dead", "crashed", "a.dead", "delay.0"))
        for name in ("a", "a.dead", "a.delay.0", "dead", "workers", "a.b", "b")
    ]
    named = [
        {thing.name for thing in plan_queue(Names(prefix), spec) if thing.kind == "queue"}
        for prefix in ("p", "p.a", "a")
        for spec in specs
    ]
    shared = [{thing.name for thing in plan_app(Names(prefix))} for prefix in ("p", "p.a", "a")]
    for one, other in combinations([*named, *shared], 2):
        assert not one & other


def test_every_queue_is_a_quorum_queue_with_a_limit_of_its_own() -> None:
    for name, thing in queues(SPEC).items():
        assert thing.arguments["x-queue-type"] == "quorum"
        limit = DELIVERY_LIMIT if name in {"shop:mail:high", "shop:mail:normal"} else NO_LIMIT
        assert thing.arguments["x-delivery-limit"] == limit


def test_what_dead_letters_does_so_at_least_once() -> None:
    dead_lettering = [
        thing.arguments
        for name, thing in queues(SPEC).items()
        if "x-dead-letter-exchange" in thing.arguments and not name.endswith(".dead")
    ]
    assert len(dead_lettering) == len(SPEC.levels) + ladder.RUNGS
    for arguments in dead_lettering:
        assert arguments["x-dead-letter-exchange"]
        assert arguments["x-dead-letter-strategy"] == "at-least-once"
        assert arguments["x-overflow"] == "reject-publish"


def test_the_dead_letter_queue_says_which_levels_there_are() -> None:
    assert queues(SPEC)["shop:mail.dead"].arguments[MARK] == "high,normal"


def test_each_rung_expires_after_its_time() -> None:
    made = queues(SPEC)
    assert made["shop:mail.delay.0"].arguments["x-message-ttl"] == 50
    assert made["shop:mail.delay.15"].arguments["x-message-ttl"] == 50 * 2**15


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (QueueSpec(name="mail", ordered=True), "'mail' is to be ordered"),
        (QueueSpec(name="mail", levels=tuple("abcdefghijklmnopqrstu")), "21 priority levels"),
    ],
)
def test_what_rabbitmq_cannot_keep_is_refused(spec: QueueSpec, sentence: str) -> None:
    with pytest.raises(CapabilityError, match=sentence):
        list(plan_queue(NAMES, spec))


def refusal(argument: str, said: str) -> str:
    """Return what RabbitMQ says when it closes the channel."""
    place = "for queue 'shop:mail.dead' in vhost '/'"
    return f"PRECONDITION_FAILED - inequivalent arg '{argument}' {place}: {said}"


@pytest.mark.parametrize(
    ("argument", "said", "wanted", "actual"),
    [
        ("x-delivery-limit", "received '5' but current is '20'", "5", "20"),
        (
            "x-delivery-limit",
            "received the value '5' of type 'signedint' but current is none",
            "5",
            None,
        ),
        (
            "x-overflow",
            "received none but current is the value 'drop-head' of type 'longstr'",
            None,
            "drop-head",
        ),
        ("durable", "received 'true' but current is 'false'", "true", "false"),
        (MARK, "received 'high,normal' but current is 'low'", "high,normal", "low"),
        (MARK, "received '?' but current is 'one,two,th", "high,normal", "one,two,th…"),
    ],
)
def test_a_refusal_names_what_differs(
    argument: str, said: str, wanted: str | None, actual: str | None
) -> None:
    difference = read_refusal(DEAD, refusal(argument, said))
    assert difference == Difference(
        kind="queue",
        name="shop:mail.dead",
        setting="levels" if argument == MARK else argument,
        wanted=wanted,
        actual=actual,
    )


def test_a_refusal_that_nobody_understands_is_shown_as_it_is() -> None:
    assert read_refusal(DEAD, "PRECONDITION_FAILED - new").actual == "PRECONDITION_FAILED - new"


def test_an_exchange_of_another_type_is_named() -> None:
    exchange = Thing(kind="exchange", name="shop:due", type="topic")
    text = refusal("type", "received 'topic' but current is 'fanout'")
    difference = read_refusal(exchange, text.replace("queue", "exchange"))
    assert (difference.setting, difference.wanted, difference.actual) == ("type", "topic", "fanout")


def test_levels_are_read_from_a_refusal_only_if_they_are_whole() -> None:
    def told(actual: str) -> Difference:
        return Difference(kind="queue", name="x", setting="levels", wanted="?", actual=actual)

    assert read_levels(told("high,normal")) == ("high", "normal")
    assert read_levels(told("high,nor…")) is None


def test_permissions_name_only_what_a_role_needs() -> None:
    rights = permissions(NAMES, [SPEC])
    assert set(rights) == {"producer", "consumer", "operator", "deployer"}
    assert rights["producer"].startswith('"^$" ')
    assert rights["producer"].endswith(' "^$"')
    assert rights["deployer"] == '"^(shop:.*)$" "^(amq\\.default|shop:.*)$" "^(shop:.*)$"'
