"""Calls that are tried again with growing pauses, and batches whose entries are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar

from brokerq_sqs.client import Failure, Failures
from brokerq_sqs.errors import CallFailedError

T = TypeVar("T")
E = TypeVar("E")
PATIENCE = 10.0
"""Seconds after which a call that may succeed later is given up."""
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 3.0


class Persistence:
    """Tries again, with full jitter, as long as it may help and there is time."""

    def __init__(self, random: Random, *, patience: float = PATIENCE) -> None:
        self._random = random
        self._patience = patience

    async def call(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what the call does. Raises our error of the last attempt."""
        pauses = _Pauses(self._random, self._patience)
        while True:
            try:
                return await call()
            except CallFailedError as exc:
                if not exc.transient or not await pauses.next():
                    raise exc.error from exc

    async def batch(
        self,
        entries: Sequence[E],
        call: Callable[[Sequence[E]], Awaitable[Failures]],
        *,
        within: float | None = None,
    ) -> list[Failure | None]:
        """Carry out the entries, up to ten; None for each that was.

        Entries of which an earlier attempt may have succeeded say so though the last one failed.
        `within`: after so many seconds it must not be tried again.
        """
        patience = self._patience if within is None else min(within, self._patience)
        pauses = _Pauses(self._random, patience)
        outcomes: list[Failure | None] = [None] * len(entries)
        pending = list(range(len(entries)))
        in_doubt: set[int] = set()
        while pending:
            failures = await _attempt([entries[place] for place in pending], call)
            left: list[int] = []
            for number, place in enumerate(pending):
                failure = failures.get(number)
                if failure is not None and failure.maybe_done:
                    in_doubt.add(place)
                if failure is not None and place in in_doubt:
                    failure = failure._replace(maybe_done=True)
                outcomes[place] = failure
                if failure is not None and failure.transient:
                    left.append(place)
            pending = left if left and await pauses.next() else []
        return outcomes


async def _attempt(
    entries: Sequence[E], call: Callable[[Sequence[E]], Awaitable[Failures]]
) -> Failures:
    try:
        return await call(entries)
    except CallFailedError as exc:
        failure = Failure(
            str(exc.error), transient=exc.transient, maybe_done=exc.maybe_done, busy=exc.busy
        )
        return dict.fromkeys(range(len(entries)), failure)


class _Pauses:
    def __init__(self, random: Random, patience: float) -> None:
        self._random = random
        self._until = asyncio.get_running_loop().time() + patience
        self._ceiling = _FIRST_PAUSE

    async def next(self) -> bool:
        """Pause; False: the time is up."""
        pause = self._ceiling * self._random.random()
        self._ceiling = min(self._ceiling * 2, _LONGEST_PAUSE)
        if asyncio.get_running_loop().time() + pause > self._until:
            return False
        await asyncio.sleep(pause)
        return True
