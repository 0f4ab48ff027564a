"""Fields that nobody is to read: hidden in what is recorded, logged and shown of a job. Pure.

The message itself keeps them, or the job could not run: whoever may read the broker's or the
store's own data reads them too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import cast

MASK = "***"
SHORTEST = 4
"""Shorter values are not looked for in texts: that would hide what has nothing to do with them."""


class Redaction:
    """What a job's declaration says is not to be read: fields by name, at any depth."""

    __slots__ = ("_names",)

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)

    def __bool__(self) -> bool:
        return bool(self._names)

    def shown(self, value: object) -> object:
        """Return a JSON value with `***` in place of what is under one of the names."""
        match value:
            case dict():
                fields = cast("dict[str, object]", value)
                return {
                    name: MASK if name in self._names else self.shown(inner)
                    for name, inner in fields.items()
                }
            case list():
                return [self.shown(inner) for inner in cast("list[object]", value)]
            case _:
                return value

    def hider(self, body: bytes) -> Hider:
        """Return what hides the values that a payload has under the names from any text."""
        if not self._names:
            return NOTHING
        try:
            values = set(self._values(json.loads(body), secret=False))
        except ValueError:
            return NOTHING
        return Hider(values, self._names)

    def _values(self, value: object, *, secret: bool) -> Iterator[str]:
        match value:
            case dict():
                for name, inner in cast("dict[str, object]", value).items():
                    yield from self._values(inner, secret=secret or name in self._names)
            case list():
                for inner in cast("list[object]", value):
                    yield from self._values(inner, secret=secret)
            case str() | int() | float() if secret and len(str(value)) >= SHORTEST:
                yield str(value)
            case _:
                return


class Hider:
    """Takes some values out of texts; longer ones first, as one may be within another."""

    __slots__ = ("_names", "_values")

    def __init__(self, values: Collection[str], names: Collection[str]) -> None:
        self._values = sorted(values, key=len, reverse=True)
        self._names = names

    def __call__(self, text: str) -> str:
        """Return the text without the values, also where `repr` has escaped them."""
        for value in self._values:
            text = text.replace(value, MASK).replace(repr(value)[1:-1], MASK)
        return text

    def field(self, name: str, value: object) -> object:
        """Return the value of a named field, or what stands for it."""
        return MASK if name in self._names else value


NOTHING = Hider((), ())
NOT_REDACTED = Redaction(())
