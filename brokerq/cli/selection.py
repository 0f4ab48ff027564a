"""Which dead letters a command is about: ids, filters, or all of them."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from brokerq.catalogue import LetterFilter, LetterState
from brokerq.cli.parameters import duration

if TYPE_CHECKING:
    from brokerq.app import BrokerQ
    from brokerq.catalogue import Letter

PAGE = 200
ANY = "any"
_OPEN = frozenset({LetterState.OPEN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was asked for; empty: every open letter.

    Attributes:
        limit: None: no limit.
    """

    ids: tuple[str, ...] = ()
    job: str | None = None
    queue: str | None = None
    reason: str | None = None
    error: str | None = None
    group: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    states: tuple[str, ...] = ()
    limit: int | None = None

    @property
    def names_all(self) -> bool:
        """Whether nothing narrows it down."""
        return not (self.ids or self._filters())

    def _filters(self) -> list[object]:
        given = [self.job, self.queue, self.reason, self.error, self.group]
        ages = [self.older_than, self.newer_than]
        return [each for each in (*given, *ages) if each is not None]

    def wanted(self) -> LetterFilter:
        """Return it as the catalogue understands it."""
        states = frozenset(LetterState(s) for s in self.states if s != ANY)
        return LetterFilter(
            ids=self.ids or None,
            states=None if ANY in self.states else states or _OPEN,
            job=self.job,
            queue=self.queue,
            reason=self.reason,
            error_type=self.error,
            group=self.group,
            older_than=self.older_than,
            newer_than=self.newer_than,
        )

    async def find(self, bq: BrokerQ) -> AsyncGenerator[Letter]:
        """Read the letters, oldest job first."""
        wanted = self.wanted()
        left = self.limit
        after: str | None = None
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = await bq.dead_letters.search(wanted, limit=size, after=after)
            for letter in page:
                yield letter
            if len(page) < size:
                return
            left = None if left is None else left - len(page)
            after = page[-1].job_id

    async def job_ids(self, bq: BrokerQ) -> list[str]:
        """Return whose letters are meant, as things stand now.

        Ids that were given alone are returned as they are, so that a wrong one is noticed.
        """
        if self.ids and not self._filters():
            return list(dict.fromkeys(self.ids))[: self.limit]
        return [letter.job_id async for letter in self.find(bq)]


_FILTERS = (
    click.argument("ids", metavar="[ID]...", nargs=-1),
    click.option("--job", help="Only of this job."),
    click.option("--queue", help="Only of this queue."),
    click.option("--reason", help="Only with this reason, such as exhausted or rejected."),
    click.option("--error", help="Only with this type of error, such as ValueError."),
    click.option("--group", help="Only of this error group: failures with one cause."),
    click.option("--older-than", type=duration, help="Only dead for longer, such as 2h."),
    click.option("--newer-than", type=duration, help="Only dead since."),
)
_STATES = click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*(s.value for s in LetterState), ANY]),
    help="Instead of those that are open.  [default: open]",
)


def selection_options(
    *, limit: int | None, states: bool
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Add ids and filters to a command, which gets them as `selection`."""

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(command)
        def bundled(
            *,
            ids: tuple[str, ...],
            job: str | None,
            queue: str | None,
            reason: str | None,
            error: str | None,
            group: str | None,
            older_than: timedelta | None,
            newer_than: timedelta | None,
            limit: int | None,
            states: tuple[str, ...] = (),
            **others: Any,
        ) -> int:
            selection = Selection(
                ids=ids,
                job=job,
                queue=queue,
                reason=reason,
                error=error,
                group=group,
                older_than=older_than,
                newer_than=newer_than,
                states=states,
                limit=limit,
            )
            return command(selection=selection, **others)

        most = click.option(
            "--limit",
            type=click.IntRange(min=1),
            default=limit,
            show_default=limit is not None,
            help="So many at most.",
        )
        result: Callable[..., int] = most(bundled)
        for option in reversed((*_FILTERS, _STATES) if states else _FILTERS):
            result = option(result)
        return result

    return decorate
