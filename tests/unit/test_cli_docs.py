"""docs/cli.md names every command and option, and no option that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from brokerq.cli.program import root

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")


def sections() -> dict[str, str]:
    """Return the text below the heading of each command, by its first word."""
    parts = re.split(r"^## `?(\w+)[^\n]*\n", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def options(command: click.Command) -> set[str]:
    visible = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    return {name for option in visible for name in option.opts}


COMMANDS = dict(commands(root))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_is_described(name: str) -> None:
    section = sections()[name.split(maxsplit=1)[0]]
    if " " in name:
        assert f"`{name}`" in section
    missing = [each for each in options(COMMANDS[name]) if f"`{each}`" not in section]
    assert missing == []


def test_no_option_is_described_that_there_is_not() -> None:
    known = {each for command in COMMANDS.values() for each in options(command)}
    described = set(re.findall(r"`(--[a-z-]+)`", TEXT))
    assert described - known == {"--help"}


def test_every_option_has_a_help_text() -> None:
    without = {
        f"{name} {parameter.name}"
        for name, command in COMMANDS.items()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden and not parameter.help
    }
    assert without == set()
