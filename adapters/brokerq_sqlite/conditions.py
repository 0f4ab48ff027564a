"""Conditions as SQLite has them. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from brokerq.sql import conditions
from brokerq_sqlite.wire import texts as listed


class Conditions(conditions.Conditions):
    """See `brokerq.sql.conditions.Conditions`."""

    parameter: ClassVar[str] = ":{}"

    def equal(self, column: str, text: str | None) -> None:
        self.add(f"{column} = {{}}", text)

    def compare(self, column: str, operator: str, value: object) -> None:
        self.add(f"{column} {operator} {{}}", value)

    def among(self, column: str, texts: Collection[str] | None) -> None:
        if texts is not None:
            among = f"{column} IN (SELECT value FROM json_each({{}}))"  # noqa: S608 - see the class
            self.add(among, listed(sorted(texts)))
