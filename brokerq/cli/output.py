"""What goes to stdout: JSON for programs, tables for people."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import IO, Any, Literal, TypeVar, cast

import click

from brokerq.errors import RefusedError

SCHEMA = 1
"""Version of the JSON that is written; raised when a field goes or changes its meaning."""

Command = TypeVar("Command", bound=Callable[..., Any])
JsonObject = dict[str, object]
Format = Literal["text", "json", "jsonl"]


def json_option(command: Command) -> Command:
    """Add `--json`."""
    return click.option(
        "--json", "output", flag_value="json", default="text", help="Write one JSON document."
    )(command)


def json_options(command: Command) -> Command:
    """Add `--json` and `--jsonl`."""
    lines = click.option("--jsonl", "output", flag_value="jsonl", help="Write a JSON line each.")
    return json_option(lines(command))


def write_document(content: JsonObject) -> None:
    """Write one JSON document."""
    click.echo(json.dumps({"schema": SCHEMA, **content}, ensure_ascii=False, indent=2))


def write_line(content: JsonObject, *, file: IO[str] | None = None) -> None:
    """Write one line of JSON, to stdout if nothing else is said."""
    click.echo(json.dumps({"schema": SCHEMA, **content}, ensure_ascii=False), file=file)


def write_rows(name: str, rows: Sequence[JsonObject], *, columns: Sequence[str]) -> None:
    """Write rows as a table of some of their fields, for people."""
    cells = [[show(row.get(column)) for column in columns] for row in rows]
    if not cells:
        click.echo(f"no {name}", err=True)
    elif is_styled():
        _write_rich(columns, cells)
    else:
        widths = [max(map(len, each)) for each in zip(columns, *cells, strict=True)]
        for line in [list(columns), *cells]:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            click.echo("  ".join(padded).rstrip())


def write_fields(content: JsonObject, *, names: Iterable[str]) -> None:
    """Write those fields that have a value, one a line, for people."""
    shown = {name: content[name] for name in names if content.get(name) not in (None, [], "")}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        if isinstance(value, list):
            click.echo(f"{name}:")
            for line in cast("list[object]", value):
                click.echo(f"  {show(line)}")
        elif isinstance(value, str) and "\n" in value:
            click.echo(f"{name}:")
            for line in value.splitlines():
                click.echo(f"  {printable(line)}")
        else:
            click.echo(f"{name.ljust(width)}  {show(value)}")


def show(value: object) -> str:
    """Return a value as text for people, safe for a terminal."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return printable(value)
    return printable(json.dumps(value, ensure_ascii=False))


def printable(text: str) -> str:
    """Return the text with control characters written out: a payload may try to move the cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def instant(value: datetime | None) -> str | None:
    """Return an instant as ISO 8601 in UTC."""
    return None if value is None else value.astimezone(UTC).isoformat(timespec="milliseconds")


def seconds(value: timedelta | None) -> float | None:
    """Return a duration in seconds."""
    return None if value is None else round(value.total_seconds(), 3)


def is_styled() -> bool:
    """Tell whether stdout is a terminal that wants colours and lines."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone.

    Raises `RefusedError` where nobody can be asked and `--yes` is not given, or the answer is no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise RefusedError(f"{question} This cannot be undone: add --yes")
    if not click.confirm(question, err=True):
        raise RefusedError("nothing was changed")


def _write_rich(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    Console().print(table)
