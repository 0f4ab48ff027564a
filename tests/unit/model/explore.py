"""Every world that a scenario can come to."""

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

from brokerq.message import Message
from brokerq.wire import Head, write_headers
from tests.unit.model import client, worker
from tests.unit.model.messages import number_of
from tests.unit.model.promises import check, check_quiescent
from tests.unit.model.world import (
    DEADLINE,
    PUBLISHED,
    Job,
    Publisher,
    Scenario,
    Second,
    Slot,
    Step,
    ViolationError,
    World,
)


class Explored(NamedTuple):
    """How much there was to see; `ends` counts the worlds in which nothing is left to do."""

    worlds: int
    steps: int
    ends: int


class _Origin(NamedTuple):
    """Which world this one was first reached from, and how."""

    world: int
    label: str


def explore(scenario: Scenario) -> Explored:
    """Visit each world once, nearest first, and demand what was promised.

    Raises `ViolationError` with a shortest trace. Beside what `promises` demands, an end must be in
    reach of each world without a further fault and without anybody's help.
    """
    worlds = [_start(scenario)]
    numbers = {worlds[0]: 0}
    origins = [_Origin(-1, "start")]
    before: list[list[int]] = [[]]
    order: dict[Slot, int] = {}
    ends: list[int] = []
    count = 0
    for number, world in enumerate(worlds):  # grows on the way
        forward = False
        try:
            check(world)
            for step in _steps(world, scenario):
                count += 1
                after = _canonical(step.after, order)
                target = numbers.setdefault(after, len(worlds))
                if target == len(worlds):
                    worlds.append(after)
                    origins.append(_Origin(number, step.label))
                    before.append([])
                if step.forward and target != number:
                    forward = True
                    before[target].append(number)
            if not forward:
                ends.append(number)
                check_quiescent(world)
        except ViolationError as violation:
            raise ViolationError(_trace(origins, number, str(violation))) from None
    stuck = set(range(len(worlds))) - _reaching(ends, before)
    if stuck:
        raise ViolationError(_trace(origins, min(stuck), "no way leads from here to an end"))
    return Explored(len(worlds), count, len(ends))


def _steps(world: World, scenario: Scenario) -> Iterator[Step]:
    yield from client.steps(world, scenario)
    yield from worker.steps(world, scenario)


def _canonical(world: World, order: dict[Slot, int]) -> World:
    """Return the world with its slots in one order: which is which makes no difference."""
    first, second = world.slots
    if order.setdefault(first, len(order)) < order.setdefault(second, len(order)):
        return world._replace(slots=(second, first))
    return world


def _reaching(ends: list[int], before: list[list[int]]) -> set[int]:
    seen, todo = set(ends), list(ends)
    while todo:
        for number in before[todo.pop()]:
            if number not in seen:
                seen.add(number)
                todo.append(number)
    return seen


def _trace(origins: list[_Origin], number: int, violation: str) -> str:
    labels: list[str] = []
    while number >= 0:
        number, label = origins[number]
        labels.append(label)
    return "\n  ".join([violation, *reversed(labels)])


def _start(scenario: Scenario) -> World:
    first = Head(
        id="a",
        job="work",
        first_at=PUBLISHED,
        key="k" if scenario.keyed else None,
        fingerprint="f" if scenario.keyed else None,
        expires_at=DEADLINE if scenario.deadline else None,
    )
    publishers = [_publisher("first", first, reserves=scenario.keyed, sends=scenario.sends)]
    if scenario.second != Second.NONE:
        conflict = scenario.second in {Second.CONFLICT, Second.CONFLICT_BY_HAND}
        by_hand = scenario.second in {Second.BY_HAND, Second.CONFLICT_BY_HAND}
        second = Head(
            id="b",
            job="work",
            first_at=PUBLISHED + timedelta(seconds=1),
            key="k",
            fingerprint="other" if conflict else "f",
        )
        publishers.append(_publisher("second", second, reserves=not by_hand, sends=1))
    return World(
        jobs=(Job(), Job()),
        publishers=tuple(publishers),
        kills=scenario.kills,
        losses=scenario.losses,
        cancels=scenario.cancels,
        redrives=scenario.redrives,
        refusals=scenario.refusals,
        lost_answers=scenario.lost_answers,
        releases=scenario.releases,
    )


def _publisher(name: str, head: Head, *, reserves: bool, sends: int) -> Publisher:
    message = Message(headers=write_headers(head), body=b"{}")
    return Publisher(name, number_of(message), reserves, sends)
