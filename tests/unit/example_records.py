"""Records, and questions to the rules about them, with as little said as a case needs."""

from datetime import UTC, datetime, timedelta
from typing import Any

from brokerq.records import (
    ClaimAnswer,
    KeyRecord,
    Now,
    Record,
    ReserveAnswer,
    State,
    claim,
    finish,
    reserve,
)
from brokerq.wire import Head

AT = datetime(2026, 1, 1, tzinfo=UTC)
LEASE, SECOND, MINUTE = timedelta(seconds=30), timedelta(seconds=1), timedelta(minutes=1)
HEAD = Head(id="j", job="work", first_at=AT)
KEYED = HEAD._replace(key="k", fingerprint="f")
WAITING_STATES = (State.SCHEDULED, State.QUEUED, State.WAITING, State.RETRYING)


def at(seconds: float) -> Now:
    return Now(wall=AT + timedelta(seconds=seconds), lease=1_000.0 + seconds)


def record(**settings: Any) -> Record:
    facts: dict[str, Any] = {"id": "j", "state": State.QUEUED, "first_at": AT}
    return Record(**{**facts, **settings})


def running(**settings: Any) -> Record:
    facts: dict[str, Any] = {
        "state": State.RUNNING,
        "claimed": True,
        "owner": "w",
        "fence": 5,
        "lease_until": 1_030.0,
    }
    return record(**{**facts, **settings})


def claiming(
    before: Record | None,
    *,
    head: Head = HEAD,
    holder: KeyRecord | None = None,
    fence: int = 9,
    now: float = 0,
    early: bool = False,
) -> tuple[ClaimAnswer, Record | None]:
    return claim(
        before, holder, head, owner="v", lease=LEASE, fence=fence, now=at(now), early=early
    )


def finishing(
    before: Record | None, state: State, *, owner: str = "w", fence: int = 5, **settings: Any
) -> Record | None:
    facts: dict[str, Any] = {"attempt": False, "copy": False, "delay": timedelta(0)}
    facts.update(settings)
    return finish(before, owner=owner, fence=fence, state=state, now=at(0), **facts)


def reserving(
    holder: KeyRecord | None,
    held_by: Record | None,
    *,
    head: Head = KEYED,
    owner: str = "p",
    now: float = 0,
) -> tuple[ReserveAnswer, Record | None]:
    return reserve(holder, held_by, head, owner=owner, lease=LEASE, now=at(now))
