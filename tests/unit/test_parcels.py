"""Jobs on their way to a store: made ready when they are asked for, once, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerq.broker import Lane, Outgoing
from brokerq.errors import BodyTooLargeError
from brokerq.message import Message
from brokerq.parcels import Parcels
from brokerq.publishing import Parcel, Request
from brokerq.store import NewJob
from brokerq.wire import Head

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def parcel(name: str) -> Parcel:
    message = Message(headers={}, body=b"{}")
    job = NewJob(Head(id=name, job="work", first_at=NOW), message, "default", "normal")
    return Parcel(job, Outgoing(lane=Lane(queue="default"), message=message, id=name))


class Desk:
    """Prepares what it is given, and notes in which portions that was."""

    def __init__(self) -> None:
        self.portions: list[list[str]] = []

    def prepare(self, requests: Sequence[Request]) -> list[Parcel]:
        names = cast("list[str]", list(requests))
        self.portions.append(names)
        if "bad" in names:
            raise BodyTooLargeError("bad")
        return [parcel(name) for name in names]


def parcels(desk: Desk, names: Sequence[str]) -> Parcels:
    return Parcels(cast("Sequence[Request]", names), desk.prepare)


def ids(sent: Sequence[tuple[NewJob, Outgoing]]) -> list[str]:
    assert all(job.head.id == outgoing.id for job, outgoing in sent)
    return [outgoing.id for _, outgoing in sent]


def test_no_more_is_made_ready_than_is_asked_for() -> None:
    desk = Desk()
    sent = parcels(desk, "abcdefgh")
    assert len(sent) == 8
    assert desk.portions == []
    assert ids(sent[:3]) == ["a", "b", "c"]
    assert ids(sent[2:5]) == ["c", "d", "e"]
    assert sent[0][1].id == "a"
    assert desk.portions == [["a", "b", "c"], ["d", "e"]]
    assert ids(list(sent)) == list("abcdefgh")
    assert [each.outgoing.id for each in sent.all()] == list("abcdefgh")
    assert desk.portions == [["a", "b", "c"], ["d", "e"], ["f", "g", "h"]]


def test_what_cannot_be_made_ready_says_so_when_it_is_asked_for() -> None:
    sent = parcels(Desk(), ["a", "b", "bad"])
    assert ids(sent[:2]) == ["a", "b"]
    for ask in (lambda: sent[2], lambda: sent[1:], lambda: list(sent), sent.all):
        with pytest.raises(BodyTooLargeError):
            ask()


def test_there_may_be_none() -> None:
    sent = parcels(Desk(), [])
    assert (list(sent), sent.all(), list(sent[:5])) == ([], [], [])


@given(
    st.lists(st.text("abc", max_size=2), max_size=12).filter(lambda names: "bad" not in names),
    st.lists(st.slices(12), max_size=5),
)
def test_it_is_as_a_list_would_be(names: list[str], asked: list[slice]) -> None:
    desk = Desk()
    sent = parcels(desk, names)
    for part in asked:
        assert ids(sent[part]) == names[part]
    assert ids(list(sent)) == names
    assert [name for portion in desk.portions for name in portion] == names
