"""In which steps messages that were taken to be looked at are given back, or removed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

TOGETHER = 30
"""Up to 32 messages that are given back at once keep their order: more than that the broker has in
a map without one."""


@dataclass(slots=True)
class Step:
    """A run of messages with one fate: all up to the tag that are not settled before.

    Attributes:
        keep: They are given back; else removed.
    """

    tag: int
    keep: bool
    size: int
    ends: bool = False


class Steps:
    """The steps for messages that are noted one by one, in the order of their tags."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def keep(self, tag: int) -> None:
        """Note one that is given back."""
        last = self._steps[-1] if self._steps else None
        if last is None or not last.keep or last.ends or last.size == TOGETHER:
            self._steps.append(Step(tag=tag, keep=True, size=1))
        else:
            last.tag = tag
            last.size += 1

    def cut(self) -> None:
        """Have what comes next be a step of its own."""
        if self._steps:
            self._steps[-1].ends = True

    def remove_last(self) -> None:
        """Have the one noted last be removed after all."""
        last = self._steps[-1]
        if not last.keep:
            return
        tag, ends = last.tag, last.ends
        if last.size == 1:
            self._steps.pop()
        else:
            last.size -= 1
            last.tag = tag - 1
        before = self._steps[-1] if self._steps else None
        if before is not None and not before.keep:
            before.tag = tag
            before.size += 1
        else:
            self._steps.append(Step(tag=tag, keep=False, size=1, ends=ends))

    def __iter__(self) -> Iterator[Step]:
        return iter(self._steps)
