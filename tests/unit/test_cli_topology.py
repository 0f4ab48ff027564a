"""The command line: what the app's queues are in the broker."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from brokerq_memory import MemoryBroker

from brokerq.broker import QueueSpec
from brokerq.connect import Backends, open_backends
from brokerq.errors import DriftError
from brokerq.topology import Difference, Permissions, Resource, Topology
from tests.narrow import NarrowBroker, Narrowness
from tests.unit.cli_app import Shop, open_shop

PLAN = """\
box shop.payments
  kept    for ever
  levels  high, normal
box shop.payments.dead
box shop.default
  kept    for ever
  levels  normal
box shop.default.dead"""
ROLES = {"producer": '{"may": "put"}\n', "consumer": '{"may": "take"}\n'}


class Boxes(NarrowBroker, Topology, Permissions):
    """A broker whose queues are boxes, which somebody has to put up.

    Attributes:
        there: What there is, by name; the same for all objects.
    """

    there: dict[str, Resource]

    def plan(self, queues: Sequence[QueueSpec]) -> Sequence[Resource]:
        return [resource for spec in queues for resource in self._boxes(spec)]

    def _boxes(self, spec: QueueSpec) -> Sequence[Resource]:
        settings = {"kept": "for ever", "levels": ", ".join(spec.levels)}
        name = f"shop.{spec.name}"
        return [
            Resource(kind="box", name=name, settings=settings),
            Resource(kind="box", name=f"{name}.dead"),
        ]

    async def drift(self, queues: Sequence[QueueSpec]) -> Sequence[Difference]:
        found: list[Difference] = []
        for box in self.plan(queues):
            there = self.there.get(box.name)
            settings: Mapping[str, str] = {} if there is None else there.settings
            if there is None:
                found.append(_different(box, None, None, None))
            elif settings != box.settings:
                found += [
                    _different(box, name, box.settings.get(name), settings.get(name))
                    for name in sorted({*box.settings, *settings})
                    if box.settings.get(name) != settings.get(name)
                ]
        return found

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool = True) -> None:
        found = await self.drift(queues)
        if any(each.setting is not None or not create for each in found):
            raise DriftError("; ".join(map(str, found)))
        self.there.update({box.name: box for box in self.plan(queues)})

    def permissions(self, queues: Sequence[QueueSpec]) -> Mapping[str, str]:
        assert [spec.name for spec in queues] == ["payments", "default"]
        return ROLES


def _different(
    box: Resource, setting: str | None, wanted: str | None, actual: str | None
) -> Difference:
    return Difference(kind=box.kind, name=box.name, setting=setting, wanted=wanted, actual=actual)


@pytest.fixture
def plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Generator[Shop]:
    """The app on a broker that has nothing to deploy."""
    with open_shop(tmp_path, monkeypatch, capsys) as opened:
        yield opened


@pytest.fixture
def boxes(plain: Shop, monkeypatch: pytest.MonkeyPatch) -> dict[str, Resource]:
    """What there is in a broker made of boxes, on which the app is."""
    there: dict[str, Resource] = {}

    def opened(*args: Any, **kwargs: Any) -> Backends:
        backends = open_backends(*args, **kwargs)
        assert backends.store is None
        assert isinstance(backends.broker, MemoryBroker)
        broker = Boxes(backends.broker, Narrowness())
        broker.there = there
        return replace(backends, broker=broker)

    monkeypatch.setattr("brokerq.session.open_backends", opened)
    return there


def test_a_plan_is_shown_without_connecting(
    plain: Shop, boxes: dict[str, Resource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(MemoryBroker, "open")
    assert plain.do("topology", "plan") == PLAN
    assert plain.read("topology", "plan")["resources"][:2] == [
        {
            "kind": "box",
            "name": "shop.payments",
            "settings": {"kept": "for ever", "levels": "high, normal"},
        },
        {"kind": "box", "name": "shop.payments.dead", "settings": {}},
    ]
    assert boxes == {}


def test_what_is_missing_is_told_made_and_then_there(
    plain: Shop, boxes: dict[str, Resource]
) -> None:
    code, out, _ = plain.run("topology", "check")
    assert code == 1
    assert out.splitlines()[0] == "box shop.payments does not exist"
    assert len(out.splitlines()) == 4

    assert plain.do("topology", "apply") == PLAN
    assert sorted(boxes) == [
        "shop.default",
        "shop.default.dead",
        "shop.payments",
        "shop.payments.dead",
    ]

    code, out, err = plain.run("topology", "check")
    assert (code, out, err) == (0, "", "no differences\n")
    assert plain.read("topology", "check")["differences"] == []
    assert plain.do("topology", "apply") == PLAN


def test_every_difference_is_told_and_none_is_changed(
    plain: Shop, boxes: dict[str, Resource]
) -> None:
    plain.do("topology", "apply")
    boxes["shop.default"] = Resource(
        kind="box", name="shop.default", settings={"levels": "normal", "lid": "open\x1b[2J"}
    )
    code, out, _ = plain.run("topology", "check")
    assert code == 1
    assert out.splitlines() == [
        "box shop.default: kept is absent, wanted 'for ever'",
        "box shop.default: lid is 'open\\x1b[2J', wanted absent",
    ]
    code, out, _ = plain.run("topology", "check", "--json")
    assert code == 1
    assert json.loads(out)["differences"][0] == {
        "kind": "box",
        "name": "shop.default",
        "setting": "kept",
        "wanted": "for ever",
        "actual": None,
    }
    code, _, err = plain.run("topology", "apply")
    assert code == 2
    assert "kept is absent" in err
    assert "kept" not in boxes["shop.default"].settings


@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize("command", ["permissions", "iam"])
def test_the_rights_of_each_role_are_shown(plain: Shop, command: str) -> None:
    assert plain.read("topology", command)["permissions"] == ROLES
    assert plain.do("topology", command, "--role=consumer") == '{"may": "take"}'
    shown = plain.read("topology", command, "--role=consumer")
    assert shown["permissions"] == {"consumer": ROLES["consumer"]}
    assert plain.do("topology", command).splitlines() == [
        "# producer",
        '{"may": "put"}',
        "",
        "# consumer",
        '{"may": "take"}',
    ]
    code, _, err = plain.run("topology", command, "--role=king")
    assert code == 2
    assert "there is no 'king', only producer, consumer" in err


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("plan", "nothing to plan or compare"),
        ("check", "nothing to plan or compare"),
        ("permissions", "has no permissions"),
        ("iam", "has no permissions"),
    ],
)
def test_a_broker_that_has_nothing_to_deploy_says_so(plain: Shop, command: str, why: str) -> None:
    code, out, err = plain.run("topology", command)
    assert (code, out) == (2, "")
    assert why in err


def test_queues_are_made_on_every_broker(plain: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKERQ_URL", "sqlite:///jobs.db")
    monkeypatch.setenv("BROKERQ_TOPOLOGY", "verify")
    code, _, err = plain.run("queues", "ls")
    assert code == 2
    assert "payments" in err
    assert plain.do("topology", "apply") == "queue payments\nqueue default"
    assert plain.read("topology", "apply")["resources"][0]["name"] == "payments"
    assert [row["queue"] for row in plain.read("queues", "ls")["queues"]] == ["payments", "default"]
