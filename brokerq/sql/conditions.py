"""A query that is narrowed by what is asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class Conditions:
    """A statement that ends within its WHERE clause, and what was added to that.

    Names of columns come from the code, values are always parameters.

    Attributes:
        parameter: How the driver has a parameter written; `{}` stands for its name.
    """

    parameter: ClassVar[str]

    def __init__(self, statement: str, values: Mapping[str, object]) -> None:
        self._parts = [statement]
        self._values = dict(values)

    def add(self, condition: str, value: object) -> None:
        """Add a condition in which `{}` stands for the value; None: none."""
        if value is not None:
            name = f"v{len(self._values)}"
            self.also(condition.format(self.parameter.format(name)))
            self._values[name] = value

    def also(self, condition: str) -> None:
        """Add a condition that has no value."""
        self._parts.append(f"AND {condition}")

    def query(self, order: str, limit: int) -> tuple[str, dict[str, object]]:
        """Return statement and parameters."""
        self._values["limit"] = limit
        narrowed = " ".join(self._parts)
        limited = self.parameter.format("limit")
        return f"{narrowed} ORDER BY {order} LIMIT {limited}", self._values
