"""Every interleaving of one job's workers, publishers, operators and faults keeps the promises.

The model drives the rules themselves; see `tests.unit.model.explore`. The tests further down break
one rule each and see the model notice: a model that finds nothing proves nothing.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest

from brokerq import decide, records, settlement
from brokerq.broker import Ack, Verdict
from brokerq.message import Message
from brokerq.records import (
    ENDED,
    Busy,
    ClaimAnswer,
    Claimed,
    KeyRecord,
    Now,
    Record,
    Recorded,
    Stale,
    State,
)
from brokerq.retry import RetryPolicy
from brokerq.wire import Head
from tests.unit.model import store, worker
from tests.unit.model.explore import explore
from tests.unit.model.world import (
    DROP,
    FAILURE,
    INTERRUPTION,
    REJECTION,
    SNOOZE,
    SUCCESS,
    Job,
    Scenario,
    Second,
    Slot,
    Step,
    ViolationError,
    World,
)

EVERY_OUTCOME = (SUCCESS, FAILURE, REJECTION, DROP, SNOOZE, INTERRUPTION)
Claim = Callable[..., tuple[ClaimAnswer, Record | None]]

SCENARIOS = {
    "nothing goes wrong": Scenario(),
    "three kills": Scenario(kills=3),
    "three kills, retries in place": Scenario(kills=3, in_place=True),
    "a kill and a lost lease": Scenario(kills=1, losses=1),
    "a lost lease, late settlements count": Scenario(losses=1, late_settlement=True),
    "three kills and a lost lease, in place": Scenario(kills=3, losses=1, in_place=True),
    "three kills and a lost lease, one transaction": Scenario(
        kills=3, losses=1, in_place=True, atomic=True
    ),
    "a kill and a redrive": Scenario(kills=1, redrives=1),
    "a lost lease and a redrive, in place": Scenario(losses=1, redrives=1, in_place=True),
    "a kill and a cancel": Scenario(kills=1, cancels=1),
    "a lost lease and a cancel": Scenario(losses=1, cancels=1),
    "a kill, a redrive and a cancel, in place": Scenario(
        kills=1, redrives=1, cancels=1, in_place=True
    ),
    "every outcome and a kill": Scenario(kills=1, outcomes=EVERY_OUTCOME, releases=1),
    "every outcome, a lost lease and a cancel, in place": Scenario(
        losses=1, cancels=1, outcomes=EVERY_OUTCOME, releases=1, in_place=True
    ),
    "a deadline and two kills": Scenario(kills=2, deadline=True, in_place=True),
    "a deadline and a redrive": Scenario(redrives=1, deadline=True),
    "the broker takes it twice, and a kill": Scenario(kills=1, sends=2),
    "a second publish": Scenario(kills=1, keyed=True, second=Second.DUPLICATE, in_place=True),
    "a second publish and a lost lease": Scenario(
        losses=1, keyed=True, second=Second.DUPLICATE, in_place=True
    ),
    "a second publish and a redrive": Scenario(
        redrives=1, keyed=True, second=Second.DUPLICATE, in_place=True
    ),
    "a second publish, a refused message and a kill": Scenario(
        kills=1, refusals=1, keyed=True, second=Second.DUPLICATE, in_place=True
    ),
    "a reservation whose answer is lost, and more": Scenario(
        lost_answers=1, kills=1, losses=1, refusals=1, keyed=True, in_place=True
    ),
    "a second publish with another payload": Scenario(
        kills=1, keyed=True, second=Second.CONFLICT, in_place=True
    ),
    "a second publish by hand": Scenario(kills=1, keyed=True, second=Second.BY_HAND, in_place=True),
    "a second publish by hand with another payload": Scenario(
        kills=1, keyed=True, second=Second.CONFLICT_BY_HAND, in_place=True
    ),
}
LARGE_SCENARIOS = {
    "three kills and a lost lease": Scenario(kills=3, losses=1),
    "two kills, a lost lease, late settlements count": Scenario(
        kills=2, losses=1, late_settlement=True
    ),
    "two kills and a redrive": Scenario(kills=2, redrives=1),
    "three kills and a redrive, in place": Scenario(kills=3, redrives=1, in_place=True),
    "a kill, a redrive and a cancel": Scenario(kills=1, redrives=1, cancels=1),
    "a lost lease, a redrive and a cancel": Scenario(losses=1, redrives=1, cancels=1),
    "everything, in place": Scenario(kills=1, losses=1, redrives=1, cancels=1, in_place=True),
    "everything, one transaction": Scenario(
        kills=2, losses=1, redrives=1, cancels=1, in_place=True, atomic=True
    ),
    "everything and a second publish": Scenario(
        kills=1,
        losses=1,
        cancels=1,
        keyed=True,
        second=Second.DUPLICATE,
        in_place=True,
        atomic=True,
    ),
    "a second publish, a kill and a redrive": Scenario(
        kills=1, redrives=1, keyed=True, second=Second.DUPLICATE, in_place=True
    ),
    "a second publish by hand with another payload, and a redrive": Scenario(
        kills=1, redrives=1, keyed=True, second=Second.CONFLICT_BY_HAND, in_place=True
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_promises_hold_in_every_interleaving(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    explored = explore(SCENARIOS[name])
    record_property("worlds", explored.worlds)
    assert explored.ends > 1
    assert explored.worlds > 100


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", LARGE_SCENARIOS)
def test_the_promises_hold_in_every_interleaving_of_more(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    explored = explore(LARGE_SCENARIOS[name])
    record_property("worlds", explored.worlds)
    assert explored.worlds > 10_000


def test_one_kill_can_come_between_any_two_steps() -> None:
    """Guards the model itself: a run with kills must see more than one without."""
    calm, killed = explore(Scenario()), explore(Scenario(kills=1))
    assert killed.worlds > 5 * calm.worlds


def test_without_the_fence_a_worker_that_lost_its_lease_changes_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def holds(record: Record | None, *, owner: str, fence: int) -> bool:
        return record is not None and record.state == State.RUNNING and record.owner == owner

    monkeypatch.setattr(records, "holds", holds)
    with pytest.raises(ViolationError, match="P2: a worker that lost its lease recorded"):
        explore(Scenario(losses=1, in_place=True))


def _acknowledging(state: State) -> Callable[..., Verdict]:
    """Return the settlement rule without its follow-up for that recorded state."""
    original = settlement.settle_unclaimed

    def settle_unclaimed(
        answer: ClaimAnswer, message: Message, *, deliveries: int | None
    ) -> Verdict:
        if isinstance(answer, Recorded) and answer.state == state:
            return Ack()
        return original(answer, message, deliveries=deliveries)

    return settle_unclaimed


def test_without_the_follow_up_of_a_retry_the_job_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement, "settle_unclaimed", _acknowledging(State.RETRYING))
    with pytest.raises(ViolationError, match="P1: a is retrying, and nothing in the broker"):
        explore(Scenario(kills=1))


def test_without_the_follow_up_of_a_death_the_dead_letter_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settlement, "settle_unclaimed", _acknowledging(State.DEAD))
    with pytest.raises(ViolationError, match="P1: a is dead, no dead letter was confirmed"):
        explore(Scenario(kills=1))


def _claiming(
    change: Callable[[Claim, Record | None, Head], tuple[ClaimAnswer, Record | None] | Head],
) -> Claim:
    """Return the rule of claims with `change` before it: another answer, or another head."""
    original: Claim = records.claim

    def claim(
        record: Record | None,
        holder: KeyRecord | None,
        head: Head,
        *,
        owner: str,
        lease: timedelta,
        fence: int,
        now: Now,
    ) -> tuple[ClaimAnswer, Record | None]:
        changed = change(original, record, head)
        if not isinstance(changed, Head):
            return changed
        return original(record, holder, changed, owner=owner, lease=lease, fence=fence, now=now)

    return claim


def test_a_rule_that_drops_every_older_epoch_loses_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def always_stale(
        _claim: Claim, record: Record | None, head: Head
    ) -> tuple[ClaimAnswer, Record | None] | Head:
        return (Stale(), None) if record is not None and head.epoch < record.epoch else head

    monkeypatch.setattr(records, "claim", _claiming(always_stale))
    with pytest.raises(ViolationError, match="P1: a is retrying, and nothing in the broker"):
        explore(Scenario(kills=1))


def test_a_rule_that_judges_by_the_attempt_loses_the_redriven_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stale_by_attempt(
        _claim: Claim, record: Record | None, head: Head
    ) -> tuple[ClaimAnswer, Record | None] | Head:
        if record is None or record.state in ENDED:
            return head
        if head.attempts < record.attempts:
            return Stale(), None
        return head._replace(epoch=record.epoch)

    monkeypatch.setattr(records, "claim", _claiming(stale_by_attempt))
    with pytest.raises(ViolationError, match="P1"):
        explore(Scenario(kills=1, redrives=1, in_place=True))


def test_a_rule_that_never_drops_an_older_epoch_lets_old_counts_into_a_redrive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never_stale(
        _claim: Claim, record: Record | None, head: Head
    ) -> tuple[ClaimAnswer, Record | None] | Head:
        return head if record is None else head._replace(epoch=max(head.epoch, record.epoch))

    monkeypatch.setattr(records, "claim", _claiming(never_stale))
    with pytest.raises(ViolationError, match="P3: 1 attempts counted, 0 recorded"):
        explore(Scenario(kills=1, redrives=1))


def test_a_redrive_that_keeps_the_epoch_is_not_told_from_the_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = records.redrive

    def redrive(
        record: Record | None,
        holder: KeyRecord | None,
        head: Head,
        *,
        died_in: int,
        force: bool,
        now: Now,
    ) -> Record | str:
        answer = original(record, holder, head, died_in=died_in, force=force, now=now)
        return answer if isinstance(answer, str) else answer._replace(epoch=died_in)

    monkeypatch.setattr(records, "redrive", redrive)
    with pytest.raises(ViolationError, match="P3: 1 attempts counted, 0 recorded"):
        explore(Scenario(kills=1, redrives=1))


def test_a_record_that_is_deleted_on_release_forgets_what_was_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = store.write

    def write(world: World, job: Job, record: Record) -> World:
        after = original(world, job, record)
        if record.state != State.QUEUED:
            return after
        return after.with_job(record.id, after.job(record.id)._replace(record=None))

    monkeypatch.setattr(store, "write", write)
    with pytest.raises(ViolationError, match="P3: 0 attempts counted, 1 recorded"):
        explore(Scenario(outcomes=(FAILURE, INTERRUPTION), releases=1, in_place=True))


def test_a_copy_before_the_record_spends_attempts_that_were_never_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = worker.finish

    def copy_first(world: World, position: int, slot: Slot, scenario: Scenario) -> Step:
        """Publish the copy that the verdict asks for, although nothing is recorded yet."""
        step = original(world, position, slot, scenario)
        plan = step.after.slots[position].plan
        if plan is None or plan.follow_up is None or plan.dead or slot.plan is not None:
            return step
        early = world.with_message(plan.follow_up, due=plan.at_once)
        return step._replace(after=early.with_slot(position, slot._replace(plan=plan)))

    monkeypatch.setattr(worker, "finish", copy_first)
    with pytest.raises(ViolationError, match="P3: 1 attempts counted, 0 recorded"):
        explore(Scenario(kills=1))


def test_a_busy_job_whose_duplicate_is_acknowledged_is_lost_with_its_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = settlement.settle_unclaimed

    def settle_unclaimed(
        answer: ClaimAnswer, message: Message, *, deliveries: int | None
    ) -> Verdict:
        if isinstance(answer, Busy):
            return Ack()
        return original(answer, message, deliveries=deliveries)

    monkeypatch.setattr(settlement, "settle_unclaimed", settle_unclaimed)
    with pytest.raises(ViolationError, match="P1: a is running, and nothing in the broker"):
        explore(Scenario(kills=1, losses=1))


def test_without_the_crash_budget_workers_are_lost_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def precheck(claimed: Claimed, policy: RetryPolicy, *, now: object) -> None:
        return None

    monkeypatch.setattr(decide, "precheck", precheck)
    with pytest.raises(ViolationError, match="P3: 2 workers were lost, and it runs again"):
        explore(Scenario(kills=3, in_place=True))
