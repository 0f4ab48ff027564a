"""What was settled is acknowledged, nothing else is, and in few frames."""

from __future__ import annotations

from brokerq_rabbitmq.settling import Acks, plan_acks
from hypothesis import given
from hypothesis import strategies as st


def test_a_prefix_is_one_frame_and_what_lies_behind_a_gap_is_single() -> None:
    assert plan_acks([3, 1, 2], None) == Acks(up_to=3, singles=())
    assert plan_acks([1, 2, 5, 4], 3) == Acks(up_to=2, singles=[4, 5])
    assert plan_acks([5, 4], 3) == Acks(up_to=None, singles=[4, 5])
    assert plan_acks([], None) == Acks(up_to=None, singles=())


@given(st.integers(0, 30), st.data())
def test_exactly_what_was_settled_is_acknowledged(delivered: int, data: st.DataObject) -> None:
    held = dict.fromkeys(range(1, delivered + 1))
    acknowledged: set[int] = set()
    settled: set[int] = set()
    while held:
        done = data.draw(st.lists(st.sampled_from(sorted(held)), unique=True))
        for tag in done:
            del held[tag]
        settled |= set(done)
        plan = plan_acks(done, next(iter(held), None))
        assert plan.up_to is None or plan.up_to in done
        acknowledged |= set(range(1, (plan.up_to or 0) + 1)) | set(plan.singles)
        assert acknowledged == settled
        if not done:
            break
