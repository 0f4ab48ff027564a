"""How much the broker may push to a consumer. Pure."""

from __future__ import annotations

_OFTEN = 0.5
"""Seconds within which wanting more again means that more should be asked for."""


class Window:
    """The prefetch of the consumer that there is now.

    It cannot be changed, only another consumer opened; what the last one was pushed does not count.

    Attributes:
        size: Zero: there is no consumer.
        used: What it was pushed and is not settled.
        last: The last tag that was seen at all.
    """

    def __init__(self) -> None:
        self.size = 0
        self.used = 0
        self.last = 0
        self._number = 0
        self._after = 0
        self._opened_at = -_OFTEN

    @property
    def tag(self) -> str:
        """What the consumer is called."""
        return f"brokerq-{self._number}"

    def suffices(self, wanted: int) -> bool:
        """Tell whether about as much as is wanted will be pushed."""
        return 2 * (self.size - self.used) >= max(2, wanted)

    def next_size(self, wanted: int, now: float) -> int:
        """Return how much to ask for: more than is wanted where that is often too little."""
        return 2 * self.size + wanted if now - self._opened_at < _OFTEN else wanted

    def open(self, size: int, now: float) -> None:
        """Note that there will be another consumer."""
        self.size, self.used = size, 0
        self._number += 1
        self._after = self.last
        self._opened_at = now

    def freed(self, tag: int) -> None:
        """Note that a message was settled."""
        if tag > self._after:
            self.used -= 1
