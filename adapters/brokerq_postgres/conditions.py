"""A query that is narrowed by what is asked for. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from brokerq_postgres.wire import escape, texts


class Conditions:
    """A statement that ends within its WHERE clause, and what was added to that.

    Names of columns come from the code, values are always parameters.
    """

    def __init__(self, statement: str, values: Mapping[str, object]) -> None:
        self._parts = [statement]
        self._values = dict(values)

    def add(self, condition: str, value: object) -> None:
        """Add a condition in which `{}` stands for the value; None: none."""
        if value is not None:
            name = f"v{len(self._values)}"
            self._parts.append("AND " + condition.format(f"%({name})s"))
            self._values[name] = value

    def also(self, condition: str) -> None:
        """Add a condition that has no value."""
        self._parts.append(f"AND {condition}")

    def equal(self, column: str, text: str | None) -> None:
        self.add(f"{column} = {{}}", None if text is None else escape(text))

    def among(self, column: str, values: Collection[str] | None) -> None:
        if values is not None:
            self.add(f"{column} = ANY ({{}}::text[])", texts(sorted(values)))

    def query(self, order: str, limit: int) -> tuple[str, dict[str, object]]:
        """Return statement and parameters."""
        self._values["limit"] = limit
        narrowed = " ".join(self._parts)
        return f"{narrowed} ORDER BY {order} LIMIT %(limit)s", self._values
