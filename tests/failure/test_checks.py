"""The checks find what they are there for: each lie about a good story is noticed by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from brokerq import JobView, Letter, LetterState, State
from brokerq.broker import QueueStats
from brokerq.message import Message
from tests.failure.checks import Story, problems
from tests.failure.ledger import Entry, Kind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MESSAGE = Message(headers={}, body=b"{}")


def entry(kind: Kind, job_id: str, at: float, **more: Any) -> Entry:
    known: dict[str, Any] = {"attempt": 1, "fence": int(at), "key": f"quick:{job_id}"}
    known |= {name: more.pop(name) for name in ("attempt", "fence", "key") if name in more}
    return Entry(
        kind=kind,
        job_id=job_id,
        job="quick",
        at=at,
        wall=NOW.timestamp() + at,
        more={"n": int(job_id[1:]), **more},
        **known,
    )


def view(job_id: str, state: State, **more: Any) -> JobView:
    known: dict[str, Any] = {
        "id": job_id,
        "job": "quick",
        "queue": "work",
        "level": "normal",
        "state": state,
        "epoch": 0,
        "attempts": 1,
        "crashes": 0,
        "redrives": 0,
        "first_at": NOW,
        "history": (),
        "log": (),
        "tags": (),
        "cancelling": False,
    }
    for name in ("due_at", "expires_at", "ended_at", "key", "correlation", "cause", "worker"):
        known[name] = None
    for name in ("message", "result", "failure", "note"):
        known[name] = None
    return JobView(**(known | more))


def letter(job_id: str, reason: str) -> Letter:
    return Letter(
        job_id=job_id,
        epoch=0,
        state=LetterState.OPEN,
        job="quick",
        queue="work",
        level="normal",
        reason=reason,
        error_type=None,
        error_message=None,
        group="",
        at=NOW,
        redrives=0,
        message=MESSAGE,
    )


def stats(**counts: int) -> QueueStats:
    known = {"ready": 0, "in_flight": 0, "delayed": 0, "dead": 1, **counts}
    return QueueStats(queue="work", oldest=None, **known)


def published(job_id: str) -> list[Entry]:
    n = int(job_id[1:])
    return [
        Entry(kind="attempted", more={"n": n}),
        Entry(kind="confirmed", more={"n": n, "id": job_id}),
    ]


def good() -> Story:
    """Return a story with a success, one that was taken over, and one that used up its attempts."""
    entries = [line for job_id in ("j0", "j1", "j2") for line in published(job_id)]
    entries += [
        entry("begin", "j0", 1),
        entry("effect", "j0", 2),
        entry("end", "j0", 3, outcome="ok"),
    ]
    entries += [entry("begin", "j1", 4), entry("effect", "j1", 5)]
    entries += [
        entry("begin", "j1", 6),
        entry("effect", "j1", 7),
        entry("end", "j1", 8, outcome="ok"),
    ]
    for n in (1, 2, 3):
        entries += [
            entry("begin", "j2", 8 + n, attempt=n),
            entry("end", "j2", 8.5 + n, attempt=n, outcome="fail"),
        ]
    views: Mapping[str, JobView] = {
        "j0": view("j0", State.SUCCEEDED, result=b'{"fence":1}'),
        "j1": view("j1", State.SUCCEEDED, result=b'{"fence":6}', crashes=1),
        "j2": view("j2", State.DEAD, attempts=3, note="the last"),
    }
    letters = [letter("j2", "exhausted")]
    return Story(entries=entries, views=views, letters=letters, stats=[stats()], faults=1)


def changed(job_id: str, **changes: Any) -> Callable[[Story], Story]:
    """Return what records something else of the job."""

    def change(story: Story) -> Story:
        known = story.views[job_id]
        assert known is not None
        return replace(story, views={**story.views, job_id: replace(known, **changes)})

    return change


def given(**changes: Any) -> Callable[[Story], Story]:
    """Return what tells the story otherwise."""
    return lambda story: replace(story, **changes)


def unrecorded(job_id: str) -> Callable[[Story], Story]:
    """Return what loses the record of the job."""
    return lambda story: replace(story, views={**story.views, job_id: None})


def told(*entries: Entry) -> Callable[[Story], Story]:
    """Return what adds lines to the ledger."""
    return lambda story: replace(story, entries=[*story.entries, *entries])


def without(kind: Kind, job_id: str) -> Callable[[Story], Story]:
    """Return what removes lines from the ledger."""

    def change(story: Story) -> Story:
        kept = [e for e in story.entries if (e.kind, e.job_id) != (kind, job_id)]
        return replace(story, entries=kept)

    return change


def test_a_good_story_has_no_problems() -> None:
    assert problems(good()) == []


@pytest.mark.parametrize(
    ("check", "lie"),
    [
        ("nothing_lost", changed("j0", state=State.QUEUED)),
        ("nothing_lost", unrecorded("j0")),
        ("nothing_lost", given(letters=[])),
        ("nothing_lost", given(stats=[stats(ready=1)])),
        ("nothing_lost", given(stats=[stats(in_flight=1)])),
        ("nothing_lost", given(stats=[stats(dead=0)])),
        ("duplicates_bounded", given(faults=0)),
        ("duplicates_bounded", given(slots=0)),
        ("effects_accounted", without("effect", "j0")),
        ("effects_accounted", told(entry("effect", "j0", 20))),
        ("effects_accounted", told(entry("effect", "j1", 20, key="another"))),
        ("effects_accounted", told(entry("effect", "j0", 20, key="quick:j1"))),
        ("no_phantom", told(entry("begin", "j7", 20))),
        ("no_phantom", told(Entry(kind="refused", more={"n": 0}))),
        ("no_phantom", told(replace(entry("begin", "j0", 20), more={"n": 1}))),
        ("zombies_silent", told(entry("begin", "j1", 20, fence=6))),
        ("zombies_silent", told(entry("begin", "j1", 20, fence=5))),
        ("zombies_silent", changed("j1", result=b'{"fence":4}')),
        ("budget_exact", changed("j0", attempts=2)),
        ("budget_exact", changed("j2", attempts=2)),
        ("budget_exact", told(entry("begin", "j2", 20, attempt=4))),
        ("budget_exact", told(entry("begin", "j0", 20, attempt=3))),
        (
            "never_early",
            given(not_before={"j0": NOW + timedelta(seconds=1.1)}),
        ),
    ],
)
def test_a_lie_is_noticed(check: str, lie: Callable[[Story], Story]) -> None:
    found = problems(lie(good()))
    assert [line for line in found if line.startswith(f"{check}:")], found
