"""What adapters on SQL know of an app's lanes, and what they say of differences."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from brokerq.broker import Lane, QueueSpec
from brokerq.errors import DriftError, UnknownQueueError
from brokerq.sql.topology import KnownLanes, LaneRow, LaneRows, check, differences

PLAIN = LaneRow(id=1, queue=1, ordered=False, lease=30.0)
ORDERED = LaneRow(id=2, queue=2, ordered=True, lease=30.0)
THERE: LaneRows = {
    ("plain", "normal"): PLAIN,
    ("ordered", "high"): ORDERED,
    ("ordered", "low"): LaneRow(id=3, queue=2, ordered=True, lease=30.0),
}


class Table(KnownLanes):
    """KnownLanes in a table; counts the looks at it."""

    def __init__(self, rows: LaneRows) -> None:
        super().__init__()
        self.rows = rows
        self.looks = 0

    async def declare(self, queues: Sequence[QueueSpec], *, create: bool) -> None:
        check(queues, self.rows, create=create)
        self.leases.update({spec.name: spec.lease for spec in queues})

    async def look(self) -> LaneRows:
        self.looks += 1
        self.known = self.rows
        return self.known


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (QueueSpec(name="plain"), []),
        (QueueSpec(name="plain", lease=timedelta(hours=1)), []),
        (QueueSpec(name="ordered", levels=("low", "high"), ordered=True), []),
        (
            QueueSpec(name="plain", levels=("high", "low")),
            ["queue 'plain' has the levels normal, the app declares high, low"],
        ),
        (
            QueueSpec(name="plain", ordered=True),
            ["queue 'plain' is not ordered, the app declares that it is"],
        ),
        (
            QueueSpec(name="ordered", levels=("high",)),
            [
                "queue 'ordered' has the levels high, low, the app declares high",
                "queue 'ordered' is ordered, the app declares that it is not",
            ],
        ),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_every_difference_is_a_sentence(
    wanted: QueueSpec, said: list[str], *, create: bool
) -> None:
    assert list(differences([wanted], THERE, create=create)) == said


def test_a_missing_queue_is_a_difference_unless_it_is_created() -> None:
    specs = [QueueSpec(name="plain"), QueueSpec(name="new")]
    assert list(differences(specs, THERE, create=True)) == []
    assert list(differences(specs, THERE, create=False)) == ["queue 'new' is not there"]


def test_all_differences_are_in_one_error() -> None:
    specs = [QueueSpec(name="new"), QueueSpec(name="plain", ordered=True)]
    with pytest.raises(DriftError, match="'new' is not there; queue 'plain' is not ordered"):
        check(specs, THERE, create=False)
    check([QueueSpec(name="new")], THERE, create=True)


async def test_what_is_known_is_not_looked_for_again_until_it_is_forgotten() -> None:
    lanes = Table(THERE)
    assert await lanes.get(Lane(queue="plain")) == PLAIN
    assert await lanes.get(Lane(queue="ordered", level="high")) == ORDERED
    assert lanes.looks == 1
    lanes.forget()
    assert await lanes.get(Lane(queue="plain")) == PLAIN
    assert lanes.looks == 2


async def test_a_lane_that_is_not_there_is_looked_for_and_refused() -> None:
    lanes = Table(THERE)
    with pytest.raises(UnknownQueueError, match="'plain' with level 'low' is not declared"):
        await lanes.get(Lane(queue="plain", level="low"))
    assert lanes.looks == 1


@pytest.mark.parametrize(
    ("declared", "lease"),
    [({}, timedelta(seconds=30)), ({"plain": timedelta(hours=1)}, timedelta(hours=1))],
)
def test_the_lease_is_as_this_process_declared_it_or_else_the_last_one(
    declared: dict[str, timedelta], lease: timedelta
) -> None:
    lanes = Table(THERE)
    lanes.leases.update(declared)
    assert lanes.lease(Lane(queue="plain"), PLAIN) == lease
