"""Runs that were claimed a moment before there is a slot for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from brokerq.engine.run import Run


class Backlog:
    """Claimed runs in the order in which they are to begin.

    Each is taken once, whichever thread asks: one begins them, another takes them back.
    """

    def __init__(self) -> None:
        self._runs: deque[Run] = deque()
        self._seen: Run | None = None
        self._times = 0

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, runs: Iterable[Run]) -> None:
        """Put runs behind those that wait."""
        self._runs.extend(runs)

    def next(self) -> Run | None:
        """Take the run that is to begin; None where none waits."""
        try:
            return self._runs.popleft()
        except IndexError:
            return None

    def take_all(self) -> list[Run]:
        """Take back all that have not begun."""
        self._seen = None
        taken: list[Run] = []
        while (run := self.next()) is not None:
            taken.append(run)
        return taken

    def take_stalled(self) -> list[Run]:
        """Take back all, if one that was here two calls ago has not begun.

        One call ago would not be enough: the whole process may have stood still.
        """
        if self._seen is not None and not self._seen.begun:
            self._times += 1
            return self.take_all() if self._times > 1 else []
        self._times = 0
        try:
            self._seen = self._runs[-1]
        except IndexError:
            self._seen = None
        return []
