"""Names that cannot collide, plans, and what counts as drift."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from brokerq_sqs import topology
from brokerq_sqs.topology import Attributes, Found, Plan
from hypothesis import given
from hypothesis import strategies as st

from brokerq.broker import QueueSpec
from brokerq.errors import CapabilityError

parts = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.-]{0,8}(_[A-Za-z0-9]{1,3})?", fullmatch=True)
places = st.tuples(parts, parts, parts, st.booleans())


def make(spec: QueueSpec, *, kms: str | None = None) -> Plan:
    return topology.plan(spec, prefix="shop", kms=kms)


def arn(name: str) -> str:
    return f"arn:aws:sqs:us-east-1:1:{name}"


def deployed(plan: Plan) -> dict[str, Attributes | None]:
    """Return what is there once the plan was carried out."""
    ordered = plan.spec.ordered
    sources = [arn(wanted.name) for wanted in plan.levels.values()]
    dead = {"QueueArn": arn(plan.dead.name), "RedriveAllowPolicy": topology.allow_policy(sources)}
    policy = {"RedrivePolicy": topology.redrive_policy(arn(plan.dead.name), ordered=ordered)}
    found: dict[str, Attributes | None] = {plan.dead.name: {**plan.dead.attributes, **dead}}
    for wanted in plan.levels.values():
        found[wanted.name] = {**wanted.attributes, **policy}
    return found


def drift(plan: Plan, found: Found) -> list[str]:
    return [str(difference) for difference in topology.differences(plan, found)]


@pytest.mark.parametrize(
    ("queue", "level", "ordered", "name"),
    [
        ("mail", "normal", False, "shop__mail"),
        ("mail", "high", False, "shop__mail__high"),
        ("mail", "normal", True, "shop__mail.fifo"),
        ("eu.mail_out", "normal", False, "shop__eu-_-mail_out"),
    ],
)
def test_a_name_says_whose_queue_it_is(queue: str, level: str, ordered: bool, name: str) -> None:  # noqa: FBT001
    assert topology.queue_name("shop", queue, level, ordered=ordered) == name
    assert topology.level_of(arn(name)) == level


@given(places, places)
def test_no_two_queues_share_a_name(
    one: tuple[str, str, str, bool], other: tuple[str, str, str, bool]
) -> None:
    names: list[set[str]] = []
    for prefix, queue, level, ordered in (one, other):
        try:
            name = topology.queue_name(prefix, queue, level, ordered=ordered)
            names.append({name, topology.dead_name(prefix, queue, ordered=ordered)})
        except CapabilityError:
            return
    if one[:2] != other[:2] or one[3] != other[3]:
        assert not names[0] & names[1]
    elif one != other:
        assert len(names[0] & names[1]) == 1


@pytest.mark.parametrize(
    ("queue", "level", "match"),
    [
        ("a__b", "normal", "a__b"),
        ("a_", "normal", "a_"),
        ("a-_b", "normal", "a-_b"),
        ("a._b", "normal", "a._b"),
        ("a_.b", "normal", "a_.b"),
        ("mail", "high_", "high_"),
        ("mail-dead", "normal", "-dead"),
        ("x" * 60, "y" * 20, "80 are allowed"),
    ],
)
def test_a_name_that_sqs_or_we_cannot_have_is_refused(queue: str, level: str, match: str) -> None:
    with pytest.raises(CapabilityError, match=match):
        make(QueueSpec(name=queue, levels=(level,)))


def test_a_plan_shows_every_queue_the_dead_letters_first() -> None:
    plan = make(QueueSpec(name="mail", levels=("high", "normal"), lease=timedelta(seconds=1.5)))
    dead, high, normal = topology.resources(plan)
    assert [dead.name, high.name, normal.name] == plan.names
    assert plan.names == ["shop__mail-dead", "shop__mail__high", "shop__mail"]
    assert dead.settings == {
        "SqsManagedSseEnabled": "true",
        "MessageRetentionPeriod": "1209600",
        "MaximumMessageSize": "1048576",
        "RedriveAllowPolicy": json.dumps(
            {
                "redrivePermission": "byQueue",
                "sourceQueueArns": ["shop__mail", "shop__mail__high"],
            }
        ),
    }
    assert high.settings["VisibilityTimeout"] == "2"
    assert json.loads(normal.settings["RedrivePolicy"]) == {
        "deadLetterTargetArn": "shop__mail-dead",
        "maxReceiveCount": 25,
    }


def test_an_ordered_queue_is_a_fifo_pair_whose_limit_is_out_of_the_way() -> None:
    dead, queue = topology.resources(make(QueueSpec(name="mail", ordered=True)))
    assert dead.name == "shop__mail-dead.fifo"
    assert dead.settings["FifoQueue"] == queue.settings["FifoQueue"] == "true"
    assert json.loads(queue.settings["RedrivePolicy"])["maxReceiveCount"] == 1_000


def test_a_key_of_ones_own_encrypts() -> None:
    [dead, _] = topology.resources(make(QueueSpec(name="mail"), kms="alias/jobs"))
    assert dead.settings["KmsMasterKeyId"] == "alias/jobs"
    assert "SqsManagedSseEnabled" not in dead.settings


@pytest.mark.parametrize(
    "spec",
    [
        QueueSpec(name="mail", levels=tuple(f"l{n}" for n in range(11))),
        QueueSpec(name="mail", lease=timedelta(hours=13)),
    ],
    ids=["levels", "lease"],
)
def test_what_sqs_cannot_keep_is_refused(spec: QueueSpec) -> None:
    with pytest.raises(CapabilityError, match="mail"):
        make(spec)


@pytest.mark.parametrize("ordered", [False, True])
def test_what_is_as_planned_has_no_drift(*, ordered: bool) -> None:
    plan = make(QueueSpec(name="mail", levels=("high", "normal"), ordered=ordered))
    assert drift(plan, deployed(plan)) == []


def test_more_than_planned_is_no_drift() -> None:
    plan = make(QueueSpec(name="mail"))
    found = deployed(plan)
    queue = found["shop__mail"] = {**(found["shop__mail"] or {}), "VisibilityTimeout": "900"}
    del queue["SqsManagedSseEnabled"]
    queue["KmsMasterKeyId"] = "alias/theirs"
    policy = {"deadLetterTargetArn": arn("shop__mail-dead"), "maxReceiveCount": "100"}
    queue["RedrivePolicy"] = json.dumps(policy)
    assert drift(plan, found) == []


@pytest.mark.parametrize(
    ("name", "setting", "actual", "said"),
    [
        ("shop__mail", "VisibilityTimeout", "20", "is '20', wanted '30'"),
        ("shop__mail", "MessageRetentionPeriod", "345600", "is '345600', wanted '1209600'"),
        ("shop__mail", "SqsManagedSseEnabled", "false", "is 'false', wanted 'true'"),
        ("shop__mail-dead", "MaximumMessageSize", "262144", "is '262144', wanted '1048576'"),
        ("shop__mail-dead", "RedriveAllowPolicy", None, "is absent"),
        ("shop__mail-dead", "RedriveAllowPolicy", "{}", "is '{}'"),
        ("shop__mail-dead", "RedriveAllowPolicy", "broken", "is 'broken'"),
        ("shop__mail", "RedrivePolicy", None, "is absent"),
        ("shop__mail", "RedrivePolicy", "[]", "is '[]'"),
        (
            "shop__mail",
            "RedrivePolicy",
            json.dumps({"deadLetterTargetArn": arn("shop__mail-dead"), "maxReceiveCount": 3}),
            "maxReceiveCount",
        ),
        (
            "shop__mail",
            "RedrivePolicy",
            json.dumps({"deadLetterTargetArn": arn("another"), "maxReceiveCount": 25}),
            "another",
        ),
    ],
)
def test_drift_names_the_setting_what_is_wanted_and_what_is_there(
    name: str, setting: str, actual: str | None, said: str
) -> None:
    plan = make(QueueSpec(name="mail"))
    found = deployed(plan)
    changed = {**(found[name] or {}), setting: actual or ""}
    if actual is None:
        del changed[setting]
    [difference] = drift(plan, {**found, name: changed})
    assert difference.startswith(f"queue {name}: {setting} ")
    assert said in difference


def test_other_levels_and_another_order_are_drift() -> None:
    before = make(QueueSpec(name="mail", levels=("high", "normal")))
    plan = make(replace(before.spec, levels=("urgent", "normal")))
    found = {**deployed(before), "shop__mail__urgent": None}
    assert drift(plan, found) == [
        "queue shop__mail__urgent does not exist",
        "queue shop__mail-dead: levels is 'high, normal', wanted 'urgent, normal'",
    ]
    ordered = make(replace(before.spec, ordered=True))
    missing = dict.fromkeys(ordered.names)
    assert drift(ordered, {**missing, "shop__mail-dead": {}}) == [
        "queue shop__mail-dead: FifoQueue is 'false', wanted 'true'"
    ]


def test_only_what_is_missing_is_mended_by_declaring() -> None:
    plan = make(QueueSpec(name="mail"))
    found = deployed(plan)
    dead, queue = found["shop__mail-dead"] or {}, found["shop__mail"] or {}
    bare = {name: value for name, value in dead.items() if name != "RedriveAllowPolicy"}
    mendable = [
        {**found, "shop__mail": None},
        {**found, "shop__mail-dead": bare},
        {**found, "shop__mail": {**queue, "VisibilityTimeout": "1"}},
    ]
    for state in mendable:
        assert all(map(topology.can_mend, topology.differences(plan, state)))
    not_ours = {**found, "shop__mail": {**queue, "RedrivePolicy": "{}"}}
    assert not any(map(topology.can_mend, topology.differences(plan, not_ours)))
    assert topology.levels(dead) == ["normal"]
    assert topology.levels({}) == ["normal"]
