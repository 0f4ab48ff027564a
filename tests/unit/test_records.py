"""The rules by which a job's record changes, one by one."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from brokerq.records import (
    ENDED,
    Busy,
    CancelAnswer,
    Claimed,
    Hold,
    KeyRecord,
    Record,
    Recorded,
    Stale,
    State,
    cancel,
    redrive,
    renew,
)
from tests.unit.example_records import (
    AT,
    HEAD,
    LEASE,
    MINUTE,
    WAITING_STATES,
    at,
    claiming,
    finishing,
    record,
    running,
)


class TestClaim:
    def test_a_job_without_a_record_is_claimed_as_its_message_says(self) -> None:
        head = HEAD._replace(epoch=1, attempts=2, crashes=1, redrives=1, expires_at=AT + MINUTE)
        answer, after = claiming(None, head=head)
        assert answer == Claimed(
            fence=9,
            epoch=1,
            attempts=2,
            crashes=1,
            first_at=AT,
            expires_at=AT + MINUTE,
            redrives=1,
            at=AT,
        )
        assert after == running(
            owner="v",
            fence=9,
            epoch=1,
            attempts=2,
            crashes=1,
            redrives=1,
            expires_at=AT + MINUTE,
        )

    @pytest.mark.parametrize("state", [*WAITING_STATES, State.RESERVED])
    def test_a_job_that_waits_and_is_due_is_claimed(self, state: State) -> None:
        for due_at in (None, AT):
            answer, after = claiming(record(state=state, due_at=due_at))
            assert isinstance(answer, Claimed)
            assert after is not None
            assert (after.state, after.owner, after.fence) == (State.RUNNING, "v", 9)
            assert (after.claimed, after.due_at, after.lease_until) == (True, None, 1_030.0)

    @pytest.mark.parametrize("state", [*WAITING_STATES, State.RESERVED])
    @pytest.mark.parametrize("claimed", [False, True])
    @pytest.mark.parametrize("not_before", [None, AT])
    def test_a_job_that_is_not_due_is_busy_until_it_is(
        self, state: State, not_before: datetime | None, *, claimed: bool
    ) -> None:
        """Unless it was only published, with a delay that the broker alone has measured."""
        before = record(state=state, claimed=claimed, due_at=AT + MINUTE)
        answer, after = claiming(before, head=HEAD._replace(not_before=not_before))
        published = state in {State.RESERVED, State.SCHEDULED} and not claimed
        if published and not_before is None:
            assert isinstance(answer, Claimed)
        else:
            assert (answer, after) == (Busy(wait=MINUTE), None)

    def test_a_running_job_is_busy_until_its_lease_ends(self) -> None:
        assert claiming(running(), now=10) == (Busy(wait=timedelta(seconds=20)), None)

    def test_a_lapsed_lease_is_taken_over_and_counts_one_crash_and_no_attempt(self) -> None:
        answer, after = claiming(running(attempts=1, crashes=1), now=30)
        assert isinstance(answer, Claimed)
        assert (answer.attempts, answer.crashes, answer.fence) == (1, 2, 9)
        assert after is not None
        assert (after.owner, after.fence, after.crashes) == ("v", 9, 2)

    @pytest.mark.parametrize("before", [None, record(state=State.QUEUED)])
    def test_one_that_is_claimed_early_is_not_blamed_but_the_next_time(
        self, before: Record | None
    ) -> None:
        answer, early = claiming(before, early=True)
        assert isinstance(answer, Claimed)
        assert early == running(owner="v", fence=9, due_at=AT)
        answer, after = claiming(early, fence=10, now=30, early=True)
        assert isinstance(answer, Claimed)
        assert answer.crashes == 0
        assert after is not None
        assert (after.crashes, after.due_at) == (0, None)
        answer, after = claiming(after, fence=11, now=60)
        assert isinstance(answer, Claimed)
        assert answer.crashes == 1

    def test_a_lapsed_job_that_was_to_be_cancelled_ends_so(self) -> None:
        answer, after = claiming(running(cancelling=True), now=30)
        assert isinstance(answer, Recorded)
        assert answer.state == State.CANCELLED
        assert after is not None
        assert (after.state, after.cancelling) == (State.CANCELLED, False)

    @pytest.mark.parametrize("state", sorted(ENDED))
    @pytest.mark.parametrize("epoch", [2, 3])
    def test_a_job_that_ended_never_runs_again(self, state: State, epoch: int) -> None:
        ended = record(state=state, epoch=2, attempts=3, crashes=1, redrives=1)
        answer, after = claiming(ended, head=HEAD._replace(epoch=epoch))
        assert after is None
        assert answer == Recorded(
            state=state, epoch=2, attempts=3, crashes=1, redrives=1, first_at=AT
        )

    @pytest.mark.parametrize("state", sorted(ENDED))
    def test_an_older_message_of_a_job_that_ended_is_stale(self, state: State) -> None:
        assert claiming(record(state=state, epoch=1)) == (Stale(), None)

    def test_an_older_message_is_stale_once_the_newest_was_claimed(self) -> None:
        for state in (State.RUNNING, *WAITING_STATES):
            assert claiming(record(state=state, epoch=1, claimed=True)) == (Stale(), None)

    def test_an_older_message_is_stale_once_the_job_was_redriven(self) -> None:
        redriven = record(state=State.QUEUED, epoch=1, redrives=1)
        assert claiming(redriven) == (Stale(), None)

    def test_an_older_message_has_a_retry_carried_out_again_whose_copy_nobody_saw(self) -> None:
        before = record(state=State.RETRYING, epoch=1, attempts=1, crashes=1, due_at=AT + MINUTE)
        answer, after = claiming(before, now=20)
        assert after is None
        assert answer == Recorded(
            state=State.RETRYING,
            epoch=1,
            attempts=1,
            crashes=1,
            redrives=0,
            first_at=AT,
            wait=timedelta(seconds=40),
        )
        overdue, _ = claiming(before, now=100)
        assert isinstance(overdue, Recorded)
        assert overdue.wait == timedelta(0)

    def test_what_a_message_counts_is_a_lower_bound(self) -> None:
        answer, after = claiming(record(attempts=1, crashes=2), head=HEAD._replace(attempts=2))
        assert isinstance(answer, Claimed)
        assert (answer.attempts, answer.crashes) == (2, 2)
        assert after is not None
        assert (after.attempts, after.crashes) == (2, 2)

    def test_the_age_is_that_of_the_record(self) -> None:
        answer, _ = claiming(record(first_at=AT + MINUTE))
        assert isinstance(answer, Claimed)
        assert answer.first_at == AT + MINUTE


NOT_THE_HOLDER = [
    pytest.param(None, id="no record"),
    pytest.param(running(fence=6), id="a later claim of the same worker"),
    pytest.param(running(owner="v"), id="another worker"),
    *(pytest.param(running(state=s), id=s) for s in sorted(set(State) - {State.RUNNING})),
]


class TestHolding:
    def test_a_renewal_begins_the_lease_anew(self) -> None:
        hold, after = renew(running(), owner="w", fence=5, lease=LEASE, now=at(20))
        assert hold == Hold.HELD
        assert after == running(lease_until=1_050.0)

    def test_a_lease_that_lapsed_unnoticed_is_held_again(self) -> None:
        hold, after = renew(running(), owner="w", fence=5, lease=LEASE, now=at(100))
        assert hold == Hold.HELD
        assert after == running(lease_until=1_130.0)

    def test_a_renewal_tells_that_cancelling_was_asked_for(self) -> None:
        hold, after = renew(running(cancelling=True), owner="w", fence=5, lease=LEASE, now=at(20))
        assert hold == Hold.CANCEL_REQUESTED
        assert after == running(cancelling=True, lease_until=1_050.0)

    @pytest.mark.parametrize("before", NOT_THE_HOLDER)
    def test_who_lost_the_lease_can_renew_nothing(self, before: Record | None) -> None:
        assert renew(before, owner="w", fence=5, lease=LEASE, now=at(0)) == (Hold.LOST, None)

    @pytest.mark.parametrize("before", NOT_THE_HOLDER)
    @pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD, State.RETRYING, State.QUEUED])
    def test_who_lost_the_lease_can_record_nothing(
        self, before: Record | None, state: State
    ) -> None:
        assert finishing(before, state, attempt=True) is None

    def test_a_lease_that_lapsed_unnoticed_still_counts(self) -> None:
        assert finishing(running(lease_until=0.0), State.SUCCEEDED) is not None


class TestFinish:
    @pytest.mark.parametrize("state", sorted(ENDED))
    def test_an_end_lets_go_of_the_job(self, state: State) -> None:
        after = finishing(
            running(due_at=AT, cancelling=True, epoch=2, key="k"), state, attempt=True
        )
        assert after == record(state=state, claimed=True, fence=5, epoch=2, attempts=1, key="k")

    def test_only_an_attempt_is_counted(self) -> None:
        for attempt in (True, False):
            after = finishing(running(attempts=1, crashes=1), State.RETRYING, attempt=attempt)
            assert after is not None
            assert (after.attempts, after.crashes) == (1 + attempt, 1)

    def test_a_retry_by_copy_raises_the_epoch_and_nobody_has_claimed_that(self) -> None:
        after = finishing(running(epoch=2), State.RETRYING, attempt=True, copy=True, delay=MINUTE)
        assert after == record(
            state=State.RETRYING, epoch=3, claimed=False, fence=5, attempts=1, due_at=AT + MINUTE
        )

    @pytest.mark.parametrize("state", WAITING_STATES)
    def test_what_keeps_its_message_keeps_the_epoch(self, state: State) -> None:
        after = finishing(running(epoch=2), state, delay=MINUTE)
        assert after == record(state=state, epoch=2, claimed=True, fence=5, due_at=AT + MINUTE)

    def test_without_a_delay_the_job_is_due_at_once(self) -> None:
        after = finishing(running(), State.QUEUED)
        assert after is not None
        assert after.due_at is None

    @pytest.mark.parametrize("state", WAITING_STATES)
    def test_a_job_that_is_to_be_cancelled_ends_rather_than_wait(self, state: State) -> None:
        after = finishing(running(cancelling=True, epoch=1), state, attempt=True, copy=True)
        assert after is not None
        assert (after.state, after.attempts, after.epoch) == (State.CANCELLED, 1, 1)

    @pytest.mark.parametrize("state", [State.SUCCEEDED, State.DEAD])
    def test_a_job_that_has_ended_meanwhile_is_not_cancelled(self, state: State) -> None:
        after = finishing(running(cancelling=True), state, attempt=True)
        assert after is not None
        assert after.state == state


class TestCancel:
    @pytest.mark.parametrize("state", [*WAITING_STATES, State.RESERVED])
    def test_a_job_that_waits_is_cancelled_at_once(self, state: State) -> None:
        answer, after = cancel(record(state=state, due_at=AT, epoch=1))
        assert answer == CancelAnswer.CANCELLED
        assert after == record(state=State.CANCELLED, epoch=1)

    def test_a_running_job_is_asked_to_end_and_stays_its_worker_s(self) -> None:
        assert cancel(running()) == (CancelAnswer.REQUESTED, running(cancelling=True))

    @pytest.mark.parametrize("state", sorted(ENDED - {State.CANCELLED}))
    def test_it_is_too_late_once_the_job_has_ended(self, state: State) -> None:
        assert cancel(record(state=state)) == (CancelAnswer.TOO_LATE, None)

    def test_cancelling_twice_is_harmless(self) -> None:
        assert cancel(record(state=State.CANCELLED)) == (CancelAnswer.CANCELLED, None)
        assert cancel(running(cancelling=True))[0] == CancelAnswer.REQUESTED


def redriving(
    dead: Record | None, holder: KeyRecord | None = None, *, now: int = 5, force: bool = False
) -> Record | str:
    head = HEAD._replace(key="k", epoch=2)
    return redrive(dead, holder, head, died_in=2, force=force, now=at(now))


class TestRedrive:
    DEAD = record(
        state=State.DEAD,
        epoch=2,
        claimed=True,
        attempts=3,
        crashes=1,
        fence=7,
        key="work:k",
        redrives=1,
        expires_at=AT + MINUTE,
    )

    def test_a_redriven_job_has_the_next_epoch_and_fresh_budgets(self) -> None:
        assert redriving(self.DEAD, now=5) == record(
            state=State.QUEUED,
            first_at=AT + timedelta(seconds=5),
            epoch=3,
            claimed=False,
            attempts=0,
            crashes=0,
            fence=7,
            key="work:k",
            redrives=2,
            expires_at=AT + MINUTE,
        )

    def test_a_passed_deadline_is_cleared(self) -> None:
        for deadline in (self.DEAD.expires_at, None):
            redriven = redriving(self.DEAD._replace(expires_at=deadline), now=60)
            assert isinstance(redriven, Record)
            assert redriven.expires_at is None

    @pytest.mark.parametrize("state", sorted(set(State) - {State.DEAD, State.EXPIRED}))
    def test_what_is_not_dead_is_not_redriven(self, state: State) -> None:
        assert redriving(self.DEAD._replace(state=state)) == f"job j is {state}, it is not dead"

    def test_the_third_redrive_needs_force(self) -> None:
        twice = self.DEAD._replace(redrives=2)
        why = redriving(twice)
        assert isinstance(why, str)
        assert "needs force" in why
        assert isinstance(redriving(twice, force=True), Record)

    def test_a_key_that_another_job_took_is_not_taken_back(self) -> None:
        holder = KeyRecord(key="work:k", job_id="other")
        assert redriving(self.DEAD, holder) == "the key of job j was taken by job other"
        assert isinstance(redriving(self.DEAD, replace(holder, job_id="j")), Record)

    def test_a_job_that_died_of_a_key_conflict_takes_the_key_when_it_is_redriven(self) -> None:
        redriven = redriving(self.DEAD._replace(key=None))
        assert isinstance(redriven, Record)
        assert redriven.key == "work:k"

    def test_a_record_that_is_gone_is_made_anew_from_the_letter(self) -> None:
        redriven = redriving(None)
        assert isinstance(redriven, Record)
        assert (redriven.epoch, redriven.redrives) == (3, 1)

    def test_the_old_message_does_not_run_the_redriven_job(self) -> None:
        redriven = redriving(self.DEAD, now=5)
        assert isinstance(redriven, Record)
        old = HEAD._replace(epoch=2, attempts=2)
        assert claiming(redriven, head=old) == (Stale(), None)
        answer, _ = claiming(redriven, head=HEAD._replace(epoch=3))
        assert isinstance(answer, Claimed)
        assert (answer.attempts, answer.crashes) == (0, 0)
