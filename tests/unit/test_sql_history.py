"""A job's history as the text in a column."""

from datetime import UTC, datetime, timedelta

import pytest

from brokerq.records import State
from brokerq.sql.columns import to_micros
from brokerq.sql.history import read_history, step, trim
from brokerq.store import Transition

AT = datetime(2026, 11, 22, 5, 24, 26, 7, tzinfo=UTC)


def line(number: int) -> str:
    return step(State.RUNNING, to_micros(AT + timedelta(seconds=number)), number, None)


@pytest.mark.parametrize("note", [None, "", "ValueError: two\nlines and a  space", "\x00\ud800"])
def test_a_step_comes_back(note: str | None) -> None:
    text = step(State.RETRYING, to_micros(AT), 3, note)
    assert text.count("\n") == 1
    assert read_history(text) == (Transition(state=State.RETRYING, at=AT, attempt=3, note=note),)


def test_a_long_note_is_cut() -> None:
    (read,) = read_history(step(State.DEAD, 0, 1, "x" * 1_000))
    assert read.note == "x" * 200


@pytest.mark.parametrize(
    ("steps", "kept"),
    [(0, []), (50, [*range(50)]), (51, [*range(25), *range(26, 51)])],
)
def test_a_long_history_loses_its_middle(steps: int, kept: list[int]) -> None:
    history = "".join(map(line, range(steps)))
    assert [one.attempt for one in read_history(history)] == kept
    assert trim(history) == "".join(map(line, kept))
    assert trim(trim(history)) == trim(history)
