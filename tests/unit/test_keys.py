"""Taking keys for jobs that are published as they are recorded."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from brokerq.keys import take_in_turn
from brokerq.message import Message
from brokerq.records import (
    Conflict,
    Held,
    KeyRecord,
    Pending,
    Record,
    ReserveAnswer,
    Reserved,
    State,
)
from brokerq.store import NewJob
from brokerq.wire import Head
from tests.unit.example_records import HEAD, KEYED, MINUTE, at, record

OTHER = KeyRecord(key="work:k", job_id="other", fingerprint="f")


def taking(
    *heads: Head, holder: KeyRecord | None = None, known: Sequence[Record] = ()
) -> list[ReserveAnswer]:
    message = Message(headers={}, body=b"{}")
    jobs = [NewJob(head=head, message=message, queue="q", level="normal") for head in heads]
    keys = {} if holder is None else {holder.key: holder}
    records = {one.id: one for one in known}
    return take_in_turn(jobs, keys.get, records.get, now=at(0))


def test_a_job_without_a_key_is_published() -> None:
    assert taking(HEAD) == [Reserved(id="j")]


def test_a_free_key_is_taken_and_held_against_those_that_come_after() -> None:
    later = [KEYED._replace(id="k"), KEYED._replace(id="l", fingerprint="another")]
    assert taking(KEYED, *later) == [Reserved(id="j"), Held(id="j"), Conflict(id="j")]


def test_keys_of_different_jobs_do_not_meet() -> None:
    other = KEYED._replace(id="k", job="rest")
    assert taking(KEYED, other) == [Reserved(id="j"), Reserved(id="k")]


@pytest.mark.parametrize(
    ("fingerprint", "state", "answer"),
    [
        ("f", State.QUEUED, Held(id="other")),
        ("f", State.SUCCEEDED, Held(id="other")),
        ("another", State.QUEUED, Conflict(id="other")),
    ],
)
def test_a_key_that_another_job_holds_is_not_taken(
    fingerprint: str, state: State, answer: ReserveAnswer
) -> None:
    known = [record(id="other", state=state)]
    head = KEYED._replace(fingerprint=fingerprint)
    assert taking(head, holder=OTHER, known=known) == [answer]


@pytest.mark.parametrize(("until", "wait"), [(1_060.0, MINUTE), (1_000.0, MINUTE * 0)])
def test_another_job_s_reservation_is_waited_for(until: float, wait: timedelta) -> None:
    """One that has lapsed is to be reserved by itself."""
    known = [record(id="other", state=State.RESERVED, owner="p", lease_until=until)]
    assert taking(KEYED, holder=OTHER, known=known) == [Pending(id="other", wait=wait)]


def test_a_job_that_is_recorded_already_is_not_published_again() -> None:
    """Its key is free again: it has ended."""
    assert taking(KEYED, known=[record(state=State.DEAD)]) == [Held(id="j")]
