"""The steps of a publish within the program's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from brokerq.broker import Lane, Outgoing
from brokerq.duration import ZERO
from brokerq.errors import KeyConflictError, PublishError
from brokerq.joining import Joining, join
from brokerq.message import Message
from brokerq.publishing import Parcel
from brokerq.record import Conflict, Held, NewJob, Pending, ReserveAnswer, Reserved
from brokerq.tally import Published
from brokerq.wire import Head

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MESSAGE = Message(headers={}, body=b"{}")
LANE = Lane(queue="default")


def parcel(job_id: str, *, delay: timedelta = ZERO) -> Parcel:
    """Return a job for a broker that keeps no delay."""
    head = Head(id=job_id, job="charge", first_at=NOW, key="k")
    new = NewJob(head=head, message=MESSAGE, queue="default", level="normal")
    return Parcel(new=new, outgoing=Outgoing(lane=LANE, message=MESSAGE, id=job_id), delay=delay)


def relabel(given: Parcel, job_id: str) -> Parcel:
    return parcel(job_id)._replace(delay=given.delay)


def play(
    steps: Joining, answers: Sequence[Sequence[ReserveAnswer]]
) -> tuple[list[tuple[list[str], bool]], list[Published]]:
    """Answer each call; return the ids and the place that each was about, and what came of it."""
    calls: list[tuple[list[str], bool]] = []
    step = next(steps)
    for answer in answers:
        calls.append(([outgoing.id for _, outgoing in step.jobs], step.outbox))
        try:
            step = steps.send(answer)
        except StopIteration as done:
            return calls, done.value
    raise AssertionError("it asked for more")


@pytest.mark.parametrize("shared", [True, False])
def test_messages_go_to_their_queues_where_the_broker_is_in_the_database(*, shared: bool) -> None:
    parcels = [parcel("a"), parcel("b")]
    calls, done = play(
        join(parcels, shared=shared, relabel=relabel), [[Reserved(id="a"), Held(id="z")]]
    )
    assert calls == [(["a", "b"], not shared)]
    assert done == [Published("a", duplicate=False), Published("z", duplicate=True)]


def test_what_the_broker_cannot_delay_goes_to_the_outbox() -> None:
    steps = join([parcel("a", delay=HOUR), parcel("b")], shared=True, relabel=relabel)
    calls, done = play(steps, [[Reserved(id="b")], [Reserved(id="a")]])
    assert calls == [(["b"], False), (["a"], True)]
    assert [each.id for each in done] == ["a", "b"]


def test_the_outbox_gets_the_delay_that_was_asked_for() -> None:
    step = next(join([parcel("a", delay=HOUR)], shared=True, relabel=relabel))
    assert [outgoing.delay for _, outgoing in step.jobs] == [HOUR]


def test_a_lapsed_reservation_is_taken_over_under_its_id() -> None:
    steps = join([parcel("a", delay=HOUR), parcel("b")], shared=False, relabel=relabel)
    calls, done = play(
        steps, [[Pending(id="old", wait=ZERO), Reserved(id="b")], [Reserved(id="old")]]
    )
    assert calls == [(["a", "b"], True), (["old"], True)]
    assert [each.id for each in done] == ["old", "b"]


def test_a_reservation_that_holds_fails_its_request_only() -> None:
    steps = join([parcel("a"), parcel("b")], shared=True, relabel=relabel)
    with pytest.raises(PublishError, match="roll back") as refused:
        play(steps, [[Reserved(id="a"), Pending(id="other", wait=HOUR)]])
    assert (refused.value.failed, refused.value.unknown) == ((1,), ())


def test_one_that_is_taken_over_meanwhile_fails_too() -> None:
    steps = join([parcel("a")], shared=True, relabel=relabel)
    with pytest.raises(PublishError, match="roll back"):
        play(steps, [[Pending(id="old", wait=ZERO)], [Pending(id="old", wait=HOUR)]])


def test_a_conflict_is_raised_when_the_others_are_in() -> None:
    steps = join([parcel("a"), parcel("b", delay=HOUR)], shared=True, relabel=relabel)
    assert next(steps).outbox is False
    assert steps.send([Conflict(id="z")]).outbox is True
    with pytest.raises(KeyConflictError, match="held by job z"):
        steps.send([Reserved(id="b")])
