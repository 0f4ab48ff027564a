"""The rows that are to take effect: a CSV file with a header."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path

from brokerq.errors import ConfigurationError

Row = dict[str, str]

AIRPORTS = Path(__file__).with_name("airports.csv")
"""See the README beside it."""


def read_rows(path: Path | None, limit: int | None) -> list[Row]:
    """Return the first `limit` (None: all) rows of a file, or of the airports that come along.

    A short row is filled with empty text. Raises `ConfigurationError`, which says what is wrong
    with the file.
    """
    if limit is not None and limit < 1:
        raise ConfigurationError(f"rows must be at least 1, got {limit}")
    source = AIRPORTS if path is None else path
    shown = str(source)
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            found = [_row(shown, reader.line_num, row) for row in islice(reader, limit)]
    except OSError as exc:
        raise ConfigurationError(f"{shown} cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise ConfigurationError(f"{shown} is not a CSV file in UTF-8: {exc}") from exc
    if not found:
        raise ConfigurationError(f"{shown} has no rows below its header")
    return found


def _row(shown: str, line: int, row: dict[str | None, str | list[str]]) -> Row:
    """Return a row as text by column; what the csv module gives for surplus cells is refused."""
    cells = {name: cell for name, cell in row.items() if name is not None and isinstance(cell, str)}
    if len(cells) < len(row):
        raise ConfigurationError(f"{shown}, line {line}: more cells than the header has columns")
    return cells
