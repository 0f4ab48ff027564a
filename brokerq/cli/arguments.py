"""A job's arguments from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def argument_options(command: Command) -> Command:
    """Add `--arg` and `--json`: the job's arguments."""
    one = click.option(
        "--arg",
        "pairs",
        multiple=True,
        metavar="NAME=VALUE",
        help="One argument as text, read as its type says; NAME:=VALUE for JSON. Repeatable.",
    )
    whole = click.option(
        "--json", "document", metavar="JSON", help="All arguments as a JSON object; - for stdin."
    )
    command = whole(command)
    return one(command)


def read_arguments(pairs: Sequence[str], document: str | None) -> dict[str, object]:
    """Return the arguments; single ones go over those of the document."""
    arguments: dict[str, object] = {}
    if document is not None:
        text = sys.stdin.read() if document == "-" else document
        arguments = _read_object(text)
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name in {"", ":"}:
            raise click.BadParameter(f"{pair!r}: write NAME=VALUE", param_hint="'--arg'")
        if name.endswith(":"):
            name = name[:-1]
            arguments[name] = _read_json(text, hint="'--arg'")
        else:
            arguments[name] = text
    return arguments


def _read_object(text: str) -> dict[str, object]:
    value = _read_json(text, hint="'--json'")
    if not isinstance(value, dict):
        raise click.BadParameter('write a JSON object: {"name": "value"}', param_hint="'--json'")
    return cast("dict[str, object]", value)


def _read_json(text: str, *, hint: str) -> object:
    try:
        return cast("object", json.loads(text))
    except ValueError as exc:
        raise click.BadParameter(f"not JSON: {exc}", param_hint=hint) from exc
