"""Seam 2, the part about dead letters: the catalogue that is listed, filtered and worked on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from brokerq.message import Message


class LetterState(StrEnum):
    """Where a dead letter stands."""

    OPEN = "open"
    REDRIVING = "redriving"
    """A redrive has begun: its copy may be on its way."""
    REDRIVEN = "redriven"
    RESOLVED = "resolved"
    """Dealt with otherwise, says a person."""
    DISCARDED = "discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter in the catalogue.

    Attributes:
        message: As dead-lettered: the job's own headers and body, byte for byte, and `bq-dead-*`.
        group: Digest of the error's type and place: equal for failures of one cause.
        note: What a person said when it was closed, by `by`.
    """

    job_id: str
    epoch: int
    state: LetterState
    job: str
    queue: str
    level: str
    reason: str
    error_type: str | None
    error_message: str | None
    group: str
    at: datetime
    redrives: int
    message: Message
    note: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which dead letters to find; None: whatever. `ids` are job ids."""

    ids: Collection[str] | None = None
    states: Collection[LetterState] | None = frozenset({LetterState.OPEN})
    job: str | None = None
    queue: str | None = None
    reason: str | None = None
    error_type: str | None = None
    group: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None

    def fits(self, letter: Letter, *, now: datetime) -> bool:
        """Tell whether the letter is wanted."""
        age = now - letter.at
        return (
            (self.ids is None or letter.job_id in self.ids)
            and (self.states is None or letter.state in self.states)
            and self.job in {None, letter.job}
            and self.queue in {None, letter.queue}
            and self.reason in {None, letter.reason}
            and self.error_type in {None, letter.error_type}
            and self.group in {None, letter.group}
            and (self.older_than is None or age >= self.older_than)
            and (self.newer_than is None or age <= self.newer_than)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrive:
    """A redrive that has been recorded: publish the copy with these values, then confirm it.

    Attributes:
        epoch: Of the copy.
        first_at: When its age begins.
    """

    letter: Letter
    epoch: int
    redrives: int
    first_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRedriven:
    """Nothing was changed; `why` is a sentence, `missing` says that there is no such letter."""

    job_id: str
    why: str
    missing: bool = False


class Catalogue(Protocol):
    """The dead letters, listed and worked on."""

    @abstractmethod
    async def letters(
        self, wanted: LetterFilter, *, limit: int, after: str | None = None
    ) -> Sequence[Letter]:
        """Return letters, oldest job id first, from above the job id `after`.

        A job that died more than once has one letter per epoch; only its newest is returned.
        """

    @abstractmethod
    async def begin_redrive(
        self, job_ids: Sequence[str], *, by: str, force: bool, lease: timedelta
    ) -> Sequence[Redrive | NotRedriven]:
        """Record that the jobs' newest letters are being redriven: `open` to `redriving`.

        In the same transaction the job's record gets the next epoch and fresh budgets and takes its
        key again. Refused: a letter that is not open, a key that another job holds or has completed
        with, and without `force` a job that was redriven twice already. A `redriving` letter whose
        lease lapsed is begun again under the same epoch.
        """

    @abstractmethod
    async def end_redrive(self, redrives: Sequence[Redrive]) -> None:
        """Record that the copies are confirmed: `redriving` to `redriven`."""

    @abstractmethod
    async def lapsed_redrives(self, *, limit: int) -> Sequence[str]:
        """Return job ids whose redrive was begun and not ended within its lease."""

    @abstractmethod
    async def close_letters(
        self, job_ids: Sequence[str], *, state: LetterState, by: str, note: str | None
    ) -> Sequence[bool]:
        """Mark open letters as resolved or discarded; False where there is no open one."""
