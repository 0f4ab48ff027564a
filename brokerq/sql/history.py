"""A job's history as text: one line for each step, so that a step is only appended. Pure."""

from __future__ import annotations

import json

from brokerq.records import State
from brokerq.sql.columns import from_micros
from brokerq.store import Finish, Transition

_SHOWN = 50
_LONGEST_NOTE = 200


def step(state: State, micros: int, attempt: int, note: str | None) -> str:
    """Return one line: state, instant, attempts, and the note as JSON."""
    if note is None:
        return f"{state} {micros} {attempt}\n"
    return f"{state} {micros} {attempt} {json.dumps(note[:_LONGEST_NOTE])}\n"


def step_note(verdict: Finish | None) -> str | None:
    """Return what is noted with the step."""
    if verdict is None:
        return None
    if verdict.failure is not None:
        return f"{verdict.failure.type}: {verdict.failure.message}"
    return verdict.note


def trim(history: str) -> str:
    """Return a history without the middle, if it is longer than what is shown."""
    lines = history.splitlines(keepends=True)
    if len(lines) > _SHOWN:
        lines[_SHOWN // 2 : -_SHOWN // 2] = []
    return "".join(lines)


def read_history(history: str) -> tuple[Transition, ...]:
    """Return the steps in order; of a long history, the middle is left out."""
    return tuple(_read_step(line) for line in trim(history).splitlines())


def _read_step(line: str) -> Transition:
    state, micros, attempt, *note = line.split(" ", 3)
    return Transition(
        state=State(state),
        at=from_micros(int(micros)),
        attempt=int(attempt),
        note=str(json.loads(note[0])) if note else None,
    )
