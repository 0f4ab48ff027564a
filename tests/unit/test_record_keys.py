"""The rules of idempotency keys: who may publish, and who may run."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from brokerq.records import (
    ENDED,
    Claimed,
    Conflict,
    Duplicate,
    Held,
    KeyRecord,
    Pending,
    Reserved,
    State,
    enqueue,
    is_conflict,
    key_after,
    key_is_free,
    scoped_key,
)
from tests.unit.example_records import AT, HEAD, KEYED, MINUTE, at, claiming, record, reserving


class TestClaimWithAKey:
    HOLDER = KeyRecord(key="work:k", job_id="other", fingerprint="f")

    @pytest.mark.parametrize(
        "holder",
        [
            None,
            KeyRecord(key="work:k", job_id="j"),
            KeyRecord(key="work:k", job_id="other", expires_at=AT),
        ],
    )
    def test_a_new_job_takes_a_key_that_is_free(self, holder: KeyRecord | None) -> None:
        answer, after = claiming(None, head=KEYED, holder=holder)
        assert isinstance(answer, Claimed)
        assert answer.conflict is None
        assert after is not None
        assert after.key == "work:k"

    @pytest.mark.parametrize("fingerprint", ["f", None])
    def test_a_new_job_whose_key_another_holds_is_skipped(self, fingerprint: str | None) -> None:
        head = KEYED._replace(fingerprint=fingerprint)
        answer, after = claiming(None, head=head, holder=self.HOLDER)
        assert answer == Duplicate(of="other")
        assert after is not None
        assert (after.state, after.key) == (State.SKIPPED, None)

    def test_a_new_job_whose_key_another_holds_with_another_payload_is_told_so(self) -> None:
        head = KEYED._replace(fingerprint="g")
        answer, after = claiming(None, head=head, holder=self.HOLDER)
        assert isinstance(answer, Claimed)
        assert answer.conflict == "other"
        assert after is not None
        assert (after.state, after.key) == (State.RUNNING, None)

    def test_a_job_with_a_record_is_not_asked_for_its_key_again(self) -> None:
        answer, _ = claiming(record(key="work:k"), head=KEYED, holder=self.HOLDER)
        assert isinstance(answer, Claimed)
        assert answer.conflict is None

    def test_without_a_key_nobody_looks_at_one(self) -> None:
        answer, after = claiming(None, holder=self.HOLDER)
        assert isinstance(answer, Claimed)
        assert after is not None
        assert after.key is None


class TestReserve:
    HOLDER = KeyRecord(key="work:k", job_id="first", fingerprint="f")
    RESERVED = record(
        id="first", state=State.RESERVED, key="work:k", owner="other", lease_until=1_030.0
    )

    @pytest.mark.parametrize("due", [None, AT + MINUTE])
    def test_a_free_key_is_reserved_under_a_lease(self, due: datetime | None) -> None:
        answer, after = reserving(None, None, head=KEYED._replace(not_before=due))
        assert answer == Reserved(id="j")
        assert after == record(
            state=State.RESERVED, key="work:k", owner="p", lease_until=1_030.0, due_at=due
        )

    def test_a_key_whose_window_is_over_is_free(self) -> None:
        holder = replace(self.HOLDER, expires_at=AT)
        answer, _ = reserving(holder, self.RESERVED._replace(state=State.SUCCEEDED))
        assert answer == Reserved(id="j")

    def test_a_key_whose_job_has_no_record_any_more_is_free(self) -> None:
        answer, _ = reserving(self.HOLDER, None)
        assert answer == Reserved(id="j")

    def test_a_reservation_is_waited_for(self) -> None:
        answer, after = reserving(self.HOLDER, self.RESERVED, now=10)
        assert answer == Pending(id="first", wait=timedelta(seconds=20))
        assert after is None

    def test_a_lapsed_reservation_is_taken_over_under_its_own_id(self) -> None:
        answer, after = reserving(self.HOLDER, self.RESERVED, now=30)
        assert answer == Reserved(id="first")
        assert after == self.RESERVED._replace(owner="p", lease_until=1_060.0)

    @pytest.mark.parametrize("state", sorted(set(State) - {State.RESERVED}))
    def test_a_key_that_was_published_under_is_a_duplicate(self, state: State) -> None:
        answer, after = reserving(self.HOLDER, self.RESERVED._replace(state=state))
        assert (answer, after) == (Held(id="first"), None)

    @pytest.mark.parametrize("state", [State.RESERVED, State.RUNNING, State.SUCCEEDED])
    def test_another_payload_is_a_conflict_whatever_became_of_the_first(self, state: State) -> None:
        head = KEYED._replace(fingerprint="g")
        held_by = self.RESERVED._replace(state=state)
        assert reserving(self.HOLDER, held_by, head=head, now=60) == (Conflict(id="first"), None)

    @pytest.mark.parametrize("state", sorted(set(State) - {State.RESERVED}))
    def test_asking_again_under_the_same_id_undoes_nothing(self, state: State) -> None:
        """Its answer was lost, its lease lapsed, and another published the job meanwhile."""
        holder = replace(self.HOLDER, job_id="j")
        held_by = self.RESERVED._replace(id="j", state=state, fence=5)
        assert reserving(holder, held_by, now=60) == (Held(id="j"), None)

    def test_asking_again_while_the_reservation_is_one_s_own_renews_it(self) -> None:
        holder = replace(self.HOLDER, job_id="j")
        held_by = self.RESERVED._replace(id="j", owner="p")
        answer, after = reserving(holder, held_by, now=10)
        assert answer == Reserved(id="j")
        assert after == held_by._replace(lease_until=1_040.0)


class TestEnqueue:
    def test_a_published_job_without_a_record_gets_one(self) -> None:
        assert enqueue(None, KEYED, now=at(0)) == record(key="work:k")

    @pytest.mark.parametrize(
        ("seconds", "state"), [(60, State.SCHEDULED), (0, State.QUEUED), (-60, State.QUEUED)]
    )
    def test_a_job_with_a_delay_is_scheduled(self, seconds: float, state: State) -> None:
        head = HEAD._replace(not_before=AT + timedelta(seconds=seconds))
        after = enqueue(None, head, now=at(0))
        assert after is not None
        assert (after.state, after.due_at) == (state, head.not_before)

    @pytest.mark.parametrize("reserved_for", [None, AT, AT + 9 * MINUTE])
    def test_a_delay_counts_from_the_store_s_now_on(self, reserved_for: datetime | None) -> None:
        """Whatever the reservation was for, which may be another publisher's."""
        reserved = record(state=State.RESERVED, due_at=reserved_for)
        for before in (None, reserved):
            after = enqueue(before, HEAD, now=at(7), delay=MINUTE)
            assert after is not None
            assert (after.state, after.due_at) == (State.SCHEDULED, at(7).wall + MINUTE)

    def test_a_reserved_job_is_moved_on(self) -> None:
        reserved = record(state=State.RESERVED, owner="p", lease_until=1_030.0, key="work:k")
        assert enqueue(reserved, KEYED, now=at(0)) == record(key="work:k")

    @pytest.mark.parametrize("state", sorted(set(State) - {State.RESERVED}))
    def test_a_later_state_stays(self, state: State) -> None:
        assert enqueue(record(state=state), HEAD, now=at(0)) is None


class TestKey:
    HOLDER = KeyRecord(key="work:k", job_id="j", fingerprint="f")

    def test_a_key_is_the_job_s_own(self) -> None:
        assert scoped_key(KEYED) == "work:k"
        assert scoped_key(KEYED._replace(job="play")) == "play:k"
        assert scoped_key(HEAD) is None

    def test_a_success_holds_its_key_for_the_window(self) -> None:
        after = key_after(record(state=State.SUCCEEDED), self.HOLDER, window=MINUTE, now=at(0))
        assert after == replace(self.HOLDER, expires_at=AT + MINUTE)

    @pytest.mark.parametrize("state", sorted(ENDED - {State.SUCCEEDED}))
    def test_any_other_end_frees_it(self, state: State) -> None:
        assert key_after(record(state=state), self.HOLDER, window=MINUTE, now=at(0)) is None

    def test_a_key_is_free_from_the_end_of_its_window_on(self) -> None:
        holder = replace(self.HOLDER, expires_at=AT + MINUTE)
        assert not key_is_free(holder, for_job="other", now=at(59))
        assert key_is_free(holder, for_job="other", now=at(60))

    @pytest.mark.parametrize(
        ("held", "asked", "conflict"),
        [("f", "f", False), ("f", "g", True), (None, "g", False), ("f", None, False)],
    )
    def test_payloads_conflict_only_where_both_are_known(
        self, held: str | None, asked: str | None, *, conflict: bool
    ) -> None:
        assert is_conflict(replace(self.HOLDER, fingerprint=held), asked) is conflict
