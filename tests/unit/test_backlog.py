"""Runs that wait for a slot: begun in turn, or taken back; each once."""

from __future__ import annotations

import threading
from typing import Any, cast

from brokerq.engine.backlog import Backlog
from brokerq.engine.run import Run


class Waiting:
    """As much of a run as a backlog looks at."""

    def __init__(self) -> None:
        self.begun = False


def runs(count: int) -> list[Run]:
    return cast("list[Run]", [Waiting() for _ in range(count)])


def test_they_begin_in_the_order_in_which_they_were_claimed() -> None:
    backlog, (a, b, c) = Backlog(), runs(3)
    backlog.add([a, b])
    backlog.add([c])
    assert len(backlog) == 3
    assert [backlog.next() for _ in range(4)] == [a, b, c, None]
    assert not backlog


def test_what_has_not_begun_is_taken_back() -> None:
    backlog, (a, b, c) = Backlog(), runs(3)
    backlog.add([a, b, c])
    backlog.next()
    assert backlog.take_all() == [b, c]
    assert backlog.take_all() == []


def test_they_are_stalled_when_one_has_waited_for_two_looks() -> None:
    backlog, (a, b, c) = Backlog(), runs(3)
    backlog.add([a, b])
    assert backlog.take_stalled() == []
    backlog.next()
    a.begun = True
    backlog.add([c])
    assert backlog.take_stalled() == []
    assert backlog.take_stalled() == [b, c]


def test_what_comes_after_those_that_were_stalled_has_as_much_time() -> None:
    backlog, (a, b) = Backlog(), runs(2)
    backlog.add([a])
    assert [backlog.take_stalled() for _ in range(3)] == [[], [], [a]]
    backlog.add([b])
    assert [backlog.take_stalled() for _ in range(3)] == [[], [], [b]]


def test_they_are_not_stalled_while_each_begins_in_time() -> None:
    backlog, waiting = Backlog(), runs(20)
    for run in waiting:
        backlog.add([run])
        assert backlog.take_stalled() == []
        if len(backlog) > 1:
            taken = backlog.next()
            assert taken is not None
            taken.begun = True
    assert len(backlog) == 1


def test_an_empty_one_is_not_stalled() -> None:
    backlog, (a,) = Backlog(), runs(1)
    assert [backlog.take_stalled() for _ in range(3)] == [[], [], []]
    backlog.add([a])
    assert [backlog.take_stalled() for _ in range(2)] == [[], []]


def test_each_is_taken_once_whoever_asks() -> None:
    backlog, waiting = Backlog(), runs(20_000)
    backlog.add(waiting)
    begun: list[Any] = []
    start = threading.Barrier(2)

    def begin() -> None:
        start.wait()
        while (run := backlog.next()) is not None:
            begun.append(run)

    thread = threading.Thread(target=begin)
    thread.start()
    start.wait()
    back = backlog.take_all()
    thread.join()
    assert sorted(map(id, begun + back)) == sorted(map(id, waiting))
