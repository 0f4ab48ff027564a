"""Conditions as PostgreSQL, and psycopg, have them. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from brokerq.sql import conditions
from brokerq_postgres.wire import escape
from brokerq_postgres.wire import texts as listed


class Conditions(conditions.Conditions):
    """See `brokerq.sql.conditions.Conditions`."""

    parameter: ClassVar[str] = "%({})s"

    def equal(self, column: str, text: str | None) -> None:
        self.add(f"{column} = {{}}", None if text is None else escape(text))

    def among(self, column: str, texts: Collection[str] | None) -> None:
        if texts is not None:
            self.add(f"{column} = ANY ({{}}::text[])", listed(sorted(texts)))
